// Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
/**
 * The page: reads a file or the camera, runs model.onnx in onnxruntime-web, and shows the labels, the clip and its tubes.
 *
 * Files are demuxed by Mediabunny and decoded by the browser (WebCodecs), so the frames are exactly those that the processor samples.
 */
import { VideoError, clipSeconds, convertI420, joinFrames, prepareFrame, sampleFrames, scoreLabels, tubeBoxes } from "./clips.js";

const MAX_LABELS = 10; // shown per group
const MAX_THREADS = 4;
const CLIP_PIXELS = 480; // width of the canvas of the clip, at least
const DEFAULT_FPS = 15; // of the player
const at = (id) => document.getElementById(id);

let settings;
let ort;
let session;
let clip = null; // the clip shown: {frames: [ImageBitmap], duration: seconds}
let work = 0; // number of the file or camera that is being read: an earlier one is given up
let stopCamera = null;

/** Load the model. Rejects with a `VideoError` for the visitor. */
async function load() {
  if (!globalThis.isSecureContext || !("VideoDecoder" in globalThis)) {
    throw new VideoError(
      globalThis.isSecureContext
        ? "This browser cannot decode video frame by frame (it has no WebCodecs): use a current Chrome, Edge, Firefox or Safari."
        : "Browsers decode video for a page only at an https address or on localhost: open the page there.",
    );
  }
  settings = await (await fetchFile("model.json")).json();
  at("title").textContent = `Video classification: ${settings.name}`;
  document.title = at("title").textContent;
  at("about").textContent =
    `${settings.labels.length} labels. A clip has ${settings.num_frames} frames of ${settings.width}×${settings.height} pixels. ` +
    "Videos stay in this browser.";
  at("status").textContent = "Loading the model …";
  ort = await import("./onnxruntime-web/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./onnxruntime-web/", import.meta.url).href;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.proxy = true; // in a worker: the page stays responsive
  const model = new Uint8Array(await (await fetchFile("model.onnx")).arrayBuffer());
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const megabytes = (settings.model_bytes / 1e6).toFixed(1);
  const threads = globalThis.crossOriginIsolated
    ? `${ort.env.wasm.numThreads} threads`
    : "1 thread, because the server does not isolate the page (headers Cross-Origin-Opener-Policy: same-origin and " +
      "Cross-Origin-Embedder-Policy: require-corp)";
  at("runtime").textContent =
    `Model: ${settings.weights} weights, ${megabytes} MB. onnxruntime-web ${ort.env.versions.web}, WebAssembly, ${threads}.`;
}

async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new VideoError(`The server does not have ${name} (${response.status}).`);
  return response;
}

/**
 * The frames of the clip of a file: `{frames: [Uint8Array (3, height, width)], indices, total, duration}`.
 *
 * Throws `VideoError` for a file that is no video, is damaged, too short, or has a codec that the browser cannot decode.
 */
export async function readClip(file) {
  const { ALL_FORMATS, BlobSource, EncodedPacketSink, Input, VideoSample, VideoSampleSink } = await import(
    "./mediabunny/mediabunny.min.mjs"
  );
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  try {
    if (file.size === 0) throw new VideoError(`${file.name} is empty.`);
    if (!(await input.canRead().catch(() => false))) {
      throw new VideoError(`${file.name} is not a video that this page can read. It reads MP4, MOV, WebM, MKV and MPEG-TS files.`);
    }
    const track = await input.getPrimaryVideoTrack();
    if (!track) {
      const reason = (await input.getTracks()).length ? "has sound only, no video" : "is damaged or cut off: it has no video";
      throw new VideoError(`${file.name} ${reason}.`);
    }
    if (!(await track.canDecode())) {
      const codec = (await track.getCodecParameterString()) ?? (await track.getInternalCodecId()) ?? "unknown";
      throw new VideoError(
        `This browser cannot decode the video in ${file.name} (codec ${codec}). H.264 in MP4 and VP9 in WebM work in most browsers.`,
      );
    }
    const timestamps = [];
    for await (const packet of new EncodedPacketSink(track).packets(undefined, undefined, { metadataOnly: true })) {
      timestamps.push(packet.timestamp);
    }
    const shown = timestamps.filter((time) => time >= 0).sort((one, other) => one - other);
    const times = shown.map((time) => time - shown[0]);
    const indices = sampleFrames(times, settings);
    const distinct = [...new Set(indices)].sort((one, other) => one - other);
    // Between a frame and the next one: no rounding of times selects another frame.
    const wanted = distinct.map((index) => (index + 1 < shown.length ? (shown[index] + shown[index + 1]) / 2 : shown[index] + 1e-4));
    const frames = new Map();
    const painter = new FramePainter();
    const hasMatrix = Boolean((await track.getColorSpace()).matrix);
    for await (const sample of new VideoSampleSink(track).samplesAtTimestamps(wanted)) {
      if (!sample) throw new VideoError(`${file.name} is damaged: frame ${distinct[frames.size]} cannot be decoded.`);
      const picture = await asFfmpegConverts(sample, hasMatrix, VideoSample);
      const draw = (context, width, height) => picture.draw(context, 0, 0, width, height);
      frames.set(distinct[frames.size], painter.prepare(sample.displayWidth, sample.displayHeight, draw));
      picture.close();
      sample.close();
    }
    const span = times[distinct[distinct.length - 1]] - times[distinct[0]];
    return { frames: indices.map((index) => frames.get(index)), indices, total: shown.length, duration: span };
  } catch (error) {
    if (error instanceof VideoError) throw error;
    throw new VideoError(`${file.name} is damaged: ${error.message ?? error}`);
  } finally {
    input.dispose();
  }
}

/**
 * A copy of a sample with the colors that FFmpeg gives it. For a file that does not name its color matrix this is the matrix of BT.601;
 * browsers take that of BT.709, which shifts saturated colors by up to 40 gray levels. The browser converts what is not I420.
 */
async function asFfmpegConverts(sample, hasMatrix, VideoSample) {
  const { format, timestamp, duration, rotation, flip, visibleRect, colorSpace } = sample;
  const { primaries, transfer, fullRange } = colorSpace;
  const isGuess = !hasMatrix && colorSpace.matrix === "bt709";
  if (!format || (format !== "I420" && !isGuess)) return sample.clone();
  const matrix = isGuess ? "smpte170m" : colorSpace.matrix;
  const [width, height, times] = [visibleRect.width, visibleRect.height, { timestamp, duration, rotation, flip }];
  const size = { codedWidth: width, codedHeight: height };
  const data = new Uint8Array(sample.allocationSize());
  const layout = await sample.copyTo(data);
  // FFmpeg has other conversions for odd sizes, and for pixels that are not square.
  const isCommon = format === "I420" && !fullRange && width % 2 === 0 && height % 2 === 0 && sample.squarePixelWidth === width;
  const rgba = isCommon ? convertI420(data, layout, height, width, matrix) : null;
  if (!rgba) return new VideoSample(data, { ...times, ...size, format, layout, colorSpace: { primaries, transfer, fullRange, matrix } });
  const rgb = { primaries: "bt709", transfer: "iec61966-2-1", matrix: "rgb", fullRange: true };
  return new VideoSample(new Uint8Array(rgba.buffer), { ...times, ...size, format: "RGBX", colorSpace: rgb });
}

/** Draws a picture on a canvas of its own size and prepares it for the model. */
class FramePainter {
  prepare(width, height, draw) {
    if (!this.canvas || this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas = new OffscreenCanvas(width, height);
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    }
    draw(this.context, width, height);
    return prepareFrame(this.context.getImageData(0, 0, width, height).data, height, width, settings);
  }
}

/** Logits of a clip, as a Float32Array. */
export async function classify(frames) {
  const shape = [1, settings.num_frames, 3, settings.height, settings.width];
  const outputs = await session.run({ [settings.input]: new ort.Tensor("uint8", joinFrames(frames), shape) });
  return outputs.logits.data;
}

async function classifyFile(file) {
  const own = ++work;
  stopCamera?.();
  showError("");
  at("status").textContent = `Reading ${file.name} …`;
  try {
    const begin = performance.now();
    const read = await readClip(file);
    const decoded = performance.now();
    const logits = await classify(read.frames);
    const end = performance.now();
    if (own !== work) return;
    await showClip(read);
    const groups = showLabels(logits);
    at("caption").textContent =
      `Frames ${list(read.indices)} of the ${read.total} in ${file.name}${repeats(read.indices)}. Reading took ` +
      `${seconds(decoded - begin)}, the model ` +
      `${seconds(end - decoded)}.`;
    at("result").dataset.milliseconds = String(end - begin);
    at("status").textContent = `${file.name}: ${summary(groups)}.`;
  } catch (error) {
    if (own === work) fail(error);
  }
}

function list(indices) {
  return indices.length <= 8 ? indices.join(", ") : `${indices.slice(0, 4).join(", ")}, …, ${indices[indices.length - 1]}`;
}

/** What the caption says of a clip that has frames more than once. */
function repeats(indices) {
  const count = indices.length - new Set(indices).size;
  return count ? `; ${count} of the ${indices.length} frames of the clip are repeats` : "";
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toPrecision(2)} s`;
const percent = (score) => `${(100 * score).toFixed(1)} %`;
const summary = (groups) =>
  groups.map(({ name, entries: [best] }) => `${name ? `${name}: ` : ""}${best.label}, ${percent(best.score)}`).join("; ");

function showError(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

function fail(error) {
  if (!(error instanceof VideoError)) console.error(error);
  at("status").textContent = "";
  at("result").hidden = true;
  showError(error instanceof VideoError ? error.message : `The page failed: ${error.message ?? error}`);
}

function showLabels(logits) {
  const groups = scoreLabels(logits, settings);
  at("labels").replaceChildren(
    ...groups.flatMap(({ name, entries }) => {
      const heading = document.createElement("h2");
      const part = entries.length > MAX_LABELS ? `: the best ${MAX_LABELS} of ${entries.length}` : "";
      heading.textContent = (name || "Labels") + part;
      const rows = document.createElement("ol");
      rows.append(...entries.slice(0, MAX_LABELS).map(labelRow));
      return [heading, rows];
    }),
  );
  at("result").hidden = false;
  return groups;
}

function labelRow({ label, score }) {
  const row = document.createElement("li");
  row.dataset.score = String(score);
  const parts = ["bar", "label", "score"].map((name) => {
    const part = document.createElement("span");
    part.className = name;
    return part;
  });
  parts[0].style.width = percent(score).replace(" ", "");
  parts[1].textContent = label;
  parts[2].textContent = percent(score);
  row.append(...parts);
  return row;
}

/** Show a clip in the player. frames: as the model sees them. */
async function showClip({ frames, duration }) {
  const { width, height, flip_channels: isFlipped } = settings;
  const area = width * height;
  const bitmaps = frames.map((frame) => {
    const picture = new ImageData(width, height);
    for (let pixel = 0; pixel < area; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        picture.data[4 * pixel + channel] = frame[(isFlipped ? 2 - channel : channel) * area + pixel];
      }
      picture.data[4 * pixel + 3] = 255;
    }
    return createImageBitmap(picture);
  });
  clip = { frames: await Promise.all(bitmaps), duration };
  at("frame").max = String(frames.length - 1);
  if (Number(at("frame").value) >= frames.length) at("frame").value = "0";
  drawFrame();
}

function drawFrame() {
  const index = Number(at("frame").value);
  const scale = Math.max(1, Math.ceil(CLIP_PIXELS / settings.width));
  const canvas = at("clip");
  if (canvas.width !== scale * settings.width) [canvas.width, canvas.height] = [scale * settings.width, scale * settings.height];
  const context = canvas.getContext("2d");
  context.drawImage(clip.frames[index], 0, 0, canvas.width, canvas.height);
  context.lineWidth = 2;
  settings.tubes.forEach((tube, number) => {
    if (!at(`tube-${number}`).checked) return;
    context.strokeStyle = tube.color;
    for (const box of tubeBoxes(tube, index)) context.strokeRect(...box.map((side) => side * scale));
  });
  const last = settings.num_frames;
  at("frame-number").textContent = `${index + 1} of ${last}`;
  at("frame").setAttribute("aria-valuetext", `${index + 1} of ${last}`);
}

function play() {
  const isPlaying = () => at("play").getAttribute("aria-pressed") === "true";
  const setPlaying = (value) => {
    at("play").setAttribute("aria-pressed", String(value));
    at("play").textContent = value ? "Pause" : "Play";
  };
  at("play").addEventListener("click", () => setPlaying(!isPlaying()));
  at("frame").addEventListener("input", () => {
    setPlaying(false);
    if (clip) drawFrame();
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) setPlaying(false);
  const step = () => {
    const fps = clip?.duration > 0 ? Math.min(30, (settings.num_frames - 1) / clip.duration) : DEFAULT_FPS;
    if (clip && isPlaying()) {
      at("frame").value = String((Number(at("frame").value) + 1) % settings.num_frames);
      drawFrame();
    }
    setTimeout(step, 1000 / fps);
  };
  step();
}

function addTubes() {
  at("tubes").hidden = settings.tubes.length === 0;
  settings.tubes.forEach((tube, number) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    const swatch = document.createElement("span");
    [box.type, box.id, box.checked] = ["checkbox", `tube-${number}`, true];
    swatch.className = "swatch";
    swatch.style.background = tube.color;
    box.addEventListener("change", () => clip && drawFrame());
    label.append(box, swatch, `${tube.name}, ${tube.num_tokens} ${tube.num_tokens === 1 ? "token" : "tokens"}`);
    at("tubes").append(label);
  });
}

/** Classify the newest frames of the camera until it is stopped. */
async function useCamera() {
  const own = ++work;
  showError("");
  at("status").textContent = "Waiting for the camera …";
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new VideoError(`The camera cannot be used (${error.name}): ${error.message || "the browser refused it"}.`);
  }
  const preview = at("preview");
  stopCamera = () => {
    stream.getTracks().forEach((track) => track.stop());
    preview.hidden = true;
    preview.srcObject = null;
    at("camera").textContent = "Use the camera";
    stopCamera = null;
  };
  if (own !== work) return stopCamera();
  at("camera").textContent = "Stop the camera";
  preview.srcObject = stream;
  preview.hidden = false;
  await preview.play();
  const frames = [];
  const painter = new FramePainter();
  let isBusy = false;
  at("status").textContent = "Collecting frames …";
  while (own === work && stopCamera) {
    const due = performance.now() + (1000 * cameraSeconds()) / settings.num_frames;
    frames.push(painter.prepare(preview.videoWidth, preview.videoHeight, (context) => context.drawImage(preview, 0, 0)));
    if (frames.length > settings.num_frames) frames.shift();
    if (frames.length === settings.num_frames && !isBusy) {
      isBusy = true;
      classifyCamera([...frames], own)
        .catch(fail)
        .finally(() => (isBusy = false));
    }
    if (stream.getVideoTracks()[0].readyState === "ended") {
      stopCamera?.();
      throw new VideoError("The camera stopped sending pictures.");
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  }
}

function cameraSeconds() {
  const chosen = Number(at("seconds").value);
  return clipSeconds(settings) ?? (chosen > 0 ? chosen : 2);
}

async function classifyCamera(frames, own) {
  const begin = performance.now();
  const logits = await classify(frames);
  if (own !== work || !stopCamera) return;
  await showClip({ frames, duration: cameraSeconds() });
  const text = summary(showLabels(logits));
  at("caption").textContent =
    `The last ${cameraSeconds().toFixed(1)} s of the camera. The model took ${seconds(performance.now() - begin)}.`;
  if (at("status").textContent !== `Camera: ${text.replace(/,.*/, "")}.`) {
    at("status").textContent = `Camera: ${text.replace(/,.*/, "")}.`; // without the score: a screen reader reads changes only
  }
}

function chooseFiles(files) {
  if (files.length === 1) classifyFile(files[0]);
  else if (files.length > 1) fail(new VideoError(`${files.length} files were given: choose one.`));
}

async function start() {
  at("status").textContent = "Loading …";
  try {
    await load();
  } catch (error) {
    return fail(error);
  }
  addTubes();
  play();
  at("seconds-row").hidden = clipSeconds(settings) !== null;
  at("file").disabled = false;
  at("camera").disabled = false;
  at("file").addEventListener("change", () => chooseFiles(at("file").files));
  at("camera").addEventListener("click", () => {
    if (!stopCamera) return useCamera().catch(fail);
    work++;
    stopCamera();
    at("status").textContent = "The camera is off.";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    chooseFiles(event.dataTransfer.files);
  });
  at("status").textContent = "Ready: choose a video or use the camera.";
}

start();
