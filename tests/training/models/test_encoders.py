"""Encoders of every family: the embedding of a clip is what the checkpoint's classifier sees."""

import pytest
import torch
from small_image_models import make_source, source_outputs
from tiny_models import TINY_TUBES, make_model, tiny_clips
from transformers import AutoImageProcessor, AutoModel, BitImageProcessor, ViTImageProcessor, ViTMAEConfig, ViTMAEModel
from video_classifiers import PEERS, SIZES, save_peer

from tubevit import (
    FactorizedViViTConfig,
    FactorizedViViTForVideoClassification,
    TubeViTForImageClassification,
    TubeViTForJointClassification,
    TubeViTForVideoClassification,
    TubeViTModel,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from tubevit.processing import FactorizedViViTVideoProcessor, TubeViTVideoProcessor, UniFormerV2VideoProcessor
from tubevit.training.data.clip_sampling import MultiViewReader
from tubevit.training.models.encoders import load_encoder


WIDTH = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_labels": 3, "image_size": 16}
OWN = {
    "uniformerv2": (
        UniFormerV2ForVideoClassification,
        UniFormerV2Config(
            **WIDTH, num_attention_heads=3, patch_size=8, num_frames=4, global_layers=[0], num_global_attention_heads=2
        ),
        UniFormerV2VideoProcessor,
    ),
    "factorized_vivit": (
        FactorizedViViTForVideoClassification,
        FactorizedViViTConfig(
            **WIDTH, num_attention_heads=2, tubelet_size=[2, 8, 8], num_frames=4, temporal_num_hidden_layers=1
        ),
        FactorizedViViTVideoProcessor,
    ),
}


def uint8_clips(encoder, number=2):
    return tiny_clips(number, encoder.processor.num_frames, dtype=torch.uint8)


@pytest.mark.parametrize("name", PEERS)
def test_embedding_of_a_transformers_classifier_is_the_input_of_its_last_layer(name, tmp_path):
    model, _ = save_peer(tmp_path, name)
    encoder = load_encoder(str(tmp_path))
    clips = uint8_clips(encoder)
    embeddings = encoder(clips)
    with torch.no_grad():
        expected = model(**encoder.processors.prepare(clips, torch.float32)).logits.reshape(2, -1)
        torch.testing.assert_close(model.classifier(embeddings), expected)
    assert embeddings.shape == (2, 24) and embeddings.dtype == torch.float32
    tokens = load_encoder(str(tmp_path), level="token")(clips)
    assert tokens.dim() == 3 and tokens.shape[::2] == (2, 24)


@pytest.mark.parametrize(
    ("name", "pooling"), [("videomae", "mean"), ("vivit", "cls"), ("timesformer", "cls"), ("vjepa2", "mean")]
)
def test_backbone_of_transformers_without_pooler_has_a_mean_or_its_class_token(name, pooling, tmp_path):
    classifier, _ = save_peer(tmp_path, name)
    backbone = classifier.base_model
    backbone.config.architectures = None
    backbone.save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    clips = uint8_clips(encoder)
    with torch.no_grad():
        hidden = backbone(**encoder.processors.prepare(clips, torch.float32)).last_hidden_state
    expected = hidden.mean(1) if pooling == "mean" else hidden[:, 0]
    torch.testing.assert_close(encoder(clips), expected)
    assert (
        encoder.describe()
        == f"{'mean over the tokens' if pooling == 'mean' else 'class token'} of {type(backbone).__name__}"
    )


@pytest.mark.parametrize("name", OWN)
def test_embedding_of_other_own_families_is_the_pooler_output(name, tmp_path):
    model_class, config, processor_class = OWN[name]
    model = make_model(model_class, config)
    model.save_pretrained(tmp_path)
    processor_class(num_frames=4, **SIZES).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    clips = uint8_clips(encoder)
    embeddings = encoder(clips)
    with torch.no_grad():
        inputs = encoder.processors.prepare(clips, torch.float32)
        torch.testing.assert_close(embeddings, model.base_model(**inputs).pooler_output)
        torch.testing.assert_close(model.classifier(embeddings), model(**inputs).logits)


def test_tubevit_has_one_embedding_whatever_its_checkpoint_holds(tmp_path):
    """Classifier, backbone and joint model of equal weights, for a clip and for an image; and the mean of each tube."""
    heads = {"k": {"num_labels": 3, "modality": "video"}, "i": {"num_labels": 2, "modality": "image"}}
    model = make_model(TubeViTModel)
    folders = {}
    for kind, model_class, values in (
        ("video", TubeViTForVideoClassification, {}),
        ("image", TubeViTForImageClassification, {}),
        ("joint", TubeViTForJointClassification, {"heads": heads}),
    ):
        other = make_model(model_class, **values)
        other.base_model.load_state_dict(model.state_dict())
        folders[kind] = other
    folders["model"] = model
    clips = tiny_clips(dtype=torch.uint8)
    with torch.no_grad():
        outputs, of_image = model(pixel_values_videos=clips), model(pixel_values=clips[:, 0])
    for kind, other in folders.items():
        other.save_pretrained(tmp_path / kind)
        TubeViTVideoProcessor(num_frames=8, **SIZES).save_pretrained(tmp_path / kind)
        torch.testing.assert_close(load_encoder(str(tmp_path / kind))(clips), outputs.pooler_output)
        torch.testing.assert_close(load_encoder(str(tmp_path / kind), "image")(clips[:, 0]), of_image.pooler_output)
    tubes = load_encoder(str(tmp_path / "model"), level="tube")(clips)
    first = 0
    for index, tube in enumerate(model.config.get_tubes()):
        number = tube.num_tokens((8, 16, 16))
        torch.testing.assert_close(tubes[:, index], outputs.last_hidden_state[:, first : first + number].mean(1))
        first += number
    assert first == outputs.last_hidden_state.shape[1] and tubes.shape == (2, len(TINY_TUBES), 24)
    image_tubes = load_encoder(str(tmp_path / "image"), "image", level="tube")(clips[:, 0])
    torch.testing.assert_close(image_tubes[:, 0], of_image.last_hidden_state.mean(1))


NAMES = [
    "vit",
    "vit classifier",
    "vit masked",
    "deit",
    "dinov2",
    "dinov2 classifier",
    "dinov3",
    "clip",
    "clip vision",
    "siglip vision",
]


@pytest.mark.parametrize("name", NAMES)
def test_image_models_encode_frame_by_frame(name, tmp_path):
    model = make_source(name)
    model.save_pretrained(tmp_path)
    size = 42 if name == "dinov2" else 28 if name == "siglip vision" else 32
    BitImageProcessor(size={"shortest_edge": size + 4}, crop_size={"height": size, "width": size}).save_pretrained(
        tmp_path
    )
    frames = torch.randint(0, 256, (3, 3, 40, 60), dtype=torch.uint8)
    inputs = AutoImageProcessor.from_pretrained(tmp_path)(list(frames), return_tensors="pt").pixel_values
    encoder = load_encoder(str(tmp_path), level="frame", settings={"num_frames": 3})
    clip = (
        MultiViewReader(encoder.processor)
        .processor(frames, return_tensors="pt", do_sample_frames=False, do_rescale=False, do_normalize=False)
        .pixel_values_videos
    )
    of_frames = encoder(clip)
    with torch.no_grad():
        outputs = source_outputs(model, inputs)
        if "classifier" in name:
            torch.testing.assert_close(model.classifier(of_frames[0]), outputs.logits, rtol=1e-4, atol=1e-4)
        else:
            expected = outputs.last_hidden_state[:, 0] if name == "vit masked" else outputs.pooler_output
            torch.testing.assert_close(of_frames[0], expected, rtol=1e-4, atol=1e-4)
    pooled = load_encoder(str(tmp_path), settings={"num_frames": 3})
    torch.testing.assert_close(pooled(clip), of_frames.mean(1))
    assert "for each frame, averaged over the frames" in pooled.describe()
    as_image = load_encoder(str(tmp_path), "image")
    torch.testing.assert_close(as_image(clip[:, 0]), of_frames[:, 0])


def test_default_of_an_image_model_is_eight_frames_and_its_own_pixels(tmp_path):
    make_source("vit").save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert (encoder.processor.num_frames, encoder.processor.sampling) == (8, "uniform")
    assert not encoder.processor.do_center_crop and list(encoder.processors.own.image_mean) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "videomae",
            {"level": "tube"},
            "level=tube needs a TubeViT, and this is a VideoMAE model: set level=pooled or token",
        ),
        ("videomae", {"level": "frame"}, "level=frame needs an image model"),
        ("videomae", {"media": "image"}, "is a VideoMAE model, which reads videos, and the data are images"),
        ("siglip2 vision", {}, "cannot read frames"),
        ("siglip headless", {}, "returns no pooler_output: set level=token"),
    ],
)
def test_what_a_model_cannot_embed_is_one_line(name, arguments, message, tmp_path):
    if name in PEERS:
        save_peer(tmp_path, name)
    else:
        make_source(name).save_pretrained(tmp_path)
        BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_encoder(str(tmp_path), **arguments)(torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8))
    assert "\n" not in str(error.value)


def test_missing_pooler_weights_are_not_random(tmp_path):
    model = make_source("vit")
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("pooler.")}
    model.save_pretrained(tmp_path, state_dict=state)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), settings={"num_frames": 1})
    frames = torch.randint(0, 256, (1, 1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        own = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
        inputs = encoder.processors.prepare(frames, torch.float32)["pixel_values_videos"][0]
        torch.testing.assert_close(encoder(frames), own(inputs).last_hidden_state[:, 0])
    assert encoder.describe().startswith("class token of ViTModel")


def test_an_encoder_that_masks_at_random_is_refused(tmp_path):
    """ViTMAE drops three quarters of the patches in evaluation mode too, and orders the others at random."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTMAEModel(ViTMAEConfig(**sizes, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="masks patches at random: it has no embedding of a frame"):
        load_encoder(str(tmp_path), level="token")
