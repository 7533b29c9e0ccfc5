# The service of `tubevit serve` on a CPU:
#   docker build -t tubevit .
#   docker run --rm -p 8000:8000 -v "$PWD/demo/model:/model:ro" tubevit
FROM python:3.12-slim

RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir "/src[serve]" && rm -rf /src

RUN useradd --create-home tubevit
USER tubevit
WORKDIR /home/tubevit
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["tubevit", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
