"""Layer decay, weight decay, EMA, chance loss, stochastic depth."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_model, tiny_clips, tiny_config
from transformers import PreTrainedConfig
from video_classifiers import PEERS, save_peer

from tubevit import TubeViTForVideoClassification, UniFormerV2Config, UniFormerV2ForVideoClassification
from tubevit.modeling_tubevit import TubeViTLayer
from tubevit.training.models.families import LAYERS
from tubevit.training.models.parameter_groups import LayerIds, freeze_layers, parameter_groups
from tubevit.training.trainer.callbacks import (
    StopAtChanceLoss,
    TrainingStopped,
    check_loss,
    check_progress,
    loss_warning,
)
from tubevit.training.trainer.class_balance import chance_loss
from tubevit.training.trainer.ema import EMA
from tubevit.training.trainer.training_arguments import VideoTrainingArguments
from tubevit.uniformerv2_conversion import UniFormerV2Mapping
from tubevit.vit_layers import VisionDropPath


def groups_by_name(model, **settings):
    groups = parameter_groups(model, 1.0, 0.1, **settings)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    return groups, {name: of[id(each)] for name, each in model.named_parameters() if id(each) in of}


def test_every_trained_parameter_is_in_one_group():
    model = make_model(TubeViTForVideoClassification, gate_layer=1, layerscale_value=0.1, num_frozen_layers=1)
    groups, _ = groups_by_name(model, layer_decay=0.5)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(each) for each in model.parameters() if each.requires_grad)


def test_learning_rates_fall_with_the_distance_from_the_classifier():
    groups, of = groups_by_name(make_model(TubeViTForVideoClassification), layer_decay=0.5)
    assert of["classifier.weight"]["lr"] == of["tubevit.layernorm.bias"]["lr"] == of["tubevit.pooler.query"]["lr"] == 1
    assert of["tubevit.layers.1.mlp.fc1.weight"]["lr"] == 0.5 and of["tubevit.layers.0.mlp.fc1.weight"]["lr"] == 0.25
    assert of["tubevit.embeddings.projections.0.weight"]["lr"] == 0.125
    assert groups[0]["lr"] == 1  # what the log shows


def test_only_matrices_have_weight_decay():
    model = make_model(
        TubeViTForVideoClassification,
        use_cls_token=True,
        gate_layer=0,
        position_embedding="learned",
        layerscale_value=0.1,
    )
    _, of = groups_by_name(model)
    without = {name for name, group in of.items() if group["weight_decay"] == 0}
    assert all(
        name.endswith(".bias") or model.get_parameter(name).ndim < 2 or not name.endswith(".weight")
        for name in without
    )
    for part in ("cls_token", "alpha", "lambda1", "table_0", "layernorm.weight", "query", "fc1.bias"):
        assert any(name.endswith(part) for name in without), part
    assert {"classifier.weight", "tubevit.layers.0.attention.q_proj.weight"} <= set(of) - without


def test_weight_decay_of_matrices_is_that_of_the_uniformerv2_authors():
    """Every tensor of two or more dimensions in their layout, where the class token is a vector and the video token is not."""
    config = UniFormerV2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8,
        num_local_blocks=2, temporal_downsampling=True,
    )  # fmt: skip
    model = UniFormerV2ForVideoClassification(config)
    _, of = groups_by_name(model, weight_decay_parameters="matrices")
    _, usual = groups_by_name(model)
    mapping, theirs = UniFormerV2Mapping(), {}
    reference = model.to_reference()
    for name in of:
        source, _ = mapping.source_name(name)
        theirs[name] = reference[f"backbone.{source}"].ndim > 1
    assert {name for name, group in of.items() if group["weight_decay"]} == {
        name for name, has in theirs.items() if has
    }
    more = {name for name in of if of[name]["weight_decay"] and not usual[name]["weight_decay"]}
    assert more == {"uniformerv2.embeddings.position_embeddings", "uniformerv2.video_token"}


@pytest.mark.parametrize("name", PEERS)
def test_layers_of_other_models_are_found(name, tmp_path):
    model, _ = save_peer(tmp_path, name)
    depth_of = LayerIds.of(model)
    num_layers = 2 if name == "videoprism" else 1  # a spatial and a temporal one
    assert depth_of.num_layers == num_layers
    assert {depth_of(each) for each, _ in model.named_parameters()} == set(range(num_layers + 2))
    assert depth_of("classifier.weight") == num_layers + 1
    embeddings = [each for each, _ in model.named_parameters() if "patch_embeddings" in each]
    assert embeddings and all(depth_of(each) == 0 for each in embeddings)


def test_freezing_stops_at_the_layer():
    model = make_model(TubeViTForVideoClassification)
    freeze_layers(model, 1)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(("tubevit.embeddings", "tubevit.layers.0.")), name
    with pytest.raises(ValueError, match="num_frozen_layers=3, but the model has 2 layers"):
        freeze_layers(model, 3)


def test_all_parameters_frozen_raises():
    with pytest.raises(ValueError, match="nothing to train"):
        parameter_groups(make_model(TubeViTForVideoClassification).requires_grad_(False), 1.0, 0.0)


def test_ema_follows_its_definition(tmp_path):
    model = torch.nn.Linear(3, 2).double()
    average = EMA(model, decay=0.3)
    expected = model.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3, dtype=torch.float64))
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.average["weight"], expected)
    weights = model.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, weights)
    average.save(tmp_path)
    other = EMA(torch.nn.Linear(3, 2).double(), decay=0.3)
    other.load(tmp_path)
    assert torch.equal(other.average["weight"], average.average["weight"]) and other.num_updates == 6
    with pytest.raises(ValueError, match="does not hold the EMA"):
        EMA(torch.nn.Linear(3, 2, bias=False), decay=0.3).load(tmp_path)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_chance_loss_is_the_smallest_loss_of_a_constant_prediction(multi_label, smoothing):
    from tubevit.classification import classification_loss
    from tubevit.training.data.augmentation import soften_labels

    labels = [[0], [0, 2], [1], [0, 1]] if multi_label else [0, 0, 1, 2]
    targets = torch.zeros(4, 3)
    for row, label in enumerate(labels):
        targets[row, label] = 1
    hard = targets if multi_label else torch.tensor(labels)
    soft = soften_labels(hard, 3, smoothing).double()
    shares = soft.mean(0)
    answer = (shares.clamp(1e-12) / (1 - shares).clamp(1e-12)).log() if multi_label else shares.log()
    config = tiny_config(problem_type="multi_label_classification" if multi_label else "single_label_classification")
    least = classification_loss(soft, answer.expand(4, 3), config)
    counts = targets.sum(0).numpy()
    assert chance_loss(counts, 4, multi_label, smoothing) == pytest.approx(float(least), rel=1e-6)


def test_when_training_stops():
    check_loss(1.0, 3)
    check_progress([1.0, 1.0], math.log(3), 20, 10)
    with pytest.raises(TrainingStopped, match="The loss is inf at step 3"):
        check_loss(math.inf, 3)
    with pytest.raises(TrainingStopped, match="Nothing was learned in 10 steps up to step 20"):
        check_progress([1.10, 1.09], math.log(3), 20, 10)


def test_patience_with_the_chance_loss_counts_after_the_warm_up():
    callback, history = StopAtChanceLoss(4, math.log(3)), []
    callback.on_train_begin(
        VideoTrainingArguments(use_cpu=True, warmup_steps=0.3), SimpleNamespace(max_steps=20), None
    )
    for step in range(1, 10):
        history.append({"loss": 1.1, "step": step})
        callback.on_log(None, SimpleNamespace(global_step=step, log_history=history), None, {"loss": 1.1})
    history.append({"loss": 1.1, "step": 10})
    with pytest.raises(TrainingStopped, match="Nothing was learned in 4 steps up to step 10"):
        callback.on_log(None, SimpleNamespace(global_step=10, log_history=history), None, {"loss": 1.1})


def test_a_run_that_ends_at_the_chance_loss_is_warned_about():
    """The last tenth of the steps counts, or the last entry."""
    flat = [{"loss": 1.0986, "step": step} for step in range(1, 21)]
    message = "training ended with a loss of 1.099, not below chance level (1.099)"
    assert message in loss_warning(flat, math.log(3), 20) and message in loss_warning(flat[:3], math.log(3), 20)
    learned = [*flat[:-2], {"loss": 0.9, "step": 19}, {"eval_loss": 1.2, "step": 19}, {"loss": 1.0, "step": 20}]
    assert loss_warning(learned, math.log(3), 20) is None
    assert loss_warning(flat, None, 20) is None and loss_warning([], 1.0, 20) is None


def test_stochastic_depth_drops_whole_branches_and_keeps_their_mean():
    torch.manual_seed(0)
    drop, states = VisionDropPath(0.25), torch.ones(4000, 3, 2, dtype=torch.float64)
    dropped = drop.train()(states)
    assert set(dropped.flatten(1).unique(dim=1).flatten().tolist()) == {0.0, 1 / 0.75}
    assert dropped.mean() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(states), states)


def test_a_layer_without_its_branches_is_the_identity():
    layer = TubeViTLayer(tiny_config(), drop_path=1 - 1e-9).train()
    states = torch.randn(2, 5, 24)
    assert torch.equal(layer(states), states)


def test_stochastic_depth_grows_with_the_layer_and_is_off_in_evaluation():
    model = make_model(TubeViTForVideoClassification, num_hidden_layers=3, drop_path_rate=0.4)
    assert [layer.drop_path.rate for layer in model.tubevit.layers] == [0, 0.2, 0.4]
    plain = make_model(TubeViTForVideoClassification, num_hidden_layers=3)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(tiny_clips()).logits, plain(tiny_clips()).logits)
    with pytest.raises(ValueError, match="drop_path_rate"):
        tiny_config(drop_path_rate=1.0)


class NamesWithoutLayers(torch.nn.Module):
    """A model of an unregistered family, with other names of layers than Transformers and timm."""

    def __init__(self):
        super().__init__()
        self.config = PreTrainedConfig()
        self.units = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))


def test_options_that_need_layers_raise_without_layers():
    model = NamesWithoutLayers()
    for option, call in {
        "layer_decay=0.75": lambda: parameter_groups(model, 1.0, 0.1, layer_decay=0.75),
        "num_frozen_layers=1": lambda: freeze_layers(model, 1),
    }.items():
        with pytest.raises(ValueError, match=f"{option} needs layers, and none of the 6 parameter names") as error:
            call()
        assert "units.0.weight" in str(error.value) and LAYERS in str(error.value)
    assert len(parameter_groups(model, 1.0, 0.1)) == 2
    freeze_layers(model, 0)
    assert all(each.requires_grad for each in model.parameters())


def test_layers_of_the_vjepa2_predictor_are_not_counted(tmp_path):
    model, _ = save_peer(tmp_path, "vjepa2")
    layer_id = LayerIds.of(model)
    assert layer_id("vjepa2.encoder.layer.0.norm1.weight") == 1
    assert {layer_id(name) for name, _ in model.named_parameters() if ".predictor." in name} == {2}
