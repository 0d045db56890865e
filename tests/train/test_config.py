import pytest
from pydantic import ValidationError

from axons.errors import ConfigurationRefused
from axons.train.config import TrainConfig, check, resolve
from tests.drawing import freeze_disks


@pytest.fixture(scope="module")
def training_set(tmp_path_factory):
    return freeze_disks(tmp_path_factory.mktemp("disks"))[1]


def test_the_schema_gives_each_setting_a_range_and_an_explanation():
    properties = TrainConfig.model_json_schema()["properties"]
    assert all(setting["description"] for setting in properties.values())
    assert properties["rare_share"]["minimum"] == 0
    assert properties["architecture"]["enum"] == ["unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("minutes", -1),
        ("crop", 100),
        ("batch", 0),
        ("learning_rate", 2),
        ("loss", "huber"),
        ("architecture", "resnet"),
        ("device", "tpu"),
        ("seed", -1),
        ("num_workers", 1000),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(field, value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig(**{field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_an_unknown_setting_is_refused_by_its_name():
    with pytest.raises(ValidationError, match="epoch\\n.*Extra inputs are not permitted"):
        TrainConfig(epoch=3)


def test_minutes_and_epochs_together_are_refused():
    with pytest.raises(ValidationError, match="both minutes .2. and epochs .3. are given; choose one"):
        TrainConfig(minutes=2, epochs=3)


def test_the_defaults_follow_the_device(training_set):
    on_cpu, on_gpu = (resolve(TrainConfig(), training_set, on_gpu=on_gpu) for on_gpu in (False, True))
    assert (on_cpu.network.encoder, on_cpu.crop, on_cpu.batch) == ("resnet18", 256, 8)
    assert (on_gpu.network.encoder, on_gpu.crop, on_gpu.batch) == ("resnet34", 512, 16)
    assert on_cpu.minutes == 5


@pytest.mark.parametrize(
    ("settings", "steps_in_a_minute", "expected"),
    [
        ({"minutes": 1}, 100, (256, 8)),
        ({"minutes": 1}, 99, (256, 4)),
        ({"minutes": 1}, 49, (128, 8)),
        ({"minutes": 1}, 5, (128, 4)),
        ({}, 20, (256, 8)),
        ({"minutes": 1, "crop": 64}, 1, (64, 4)),
        ({"minutes": 1, "batch": 16}, 40, (128, 16)),
        ({"minutes": 1, "crop": 512, "batch": 16}, 1, (512, 16)),
        ({"minutes": 1, "num_workers": 8}, 49, (128, 8)),
        ({"epochs": 1}, 1, (256, 8)),
    ],
)
def test_a_slow_processor_takes_smaller_crops_so_that_minutes_hold_enough_steps(
    training_set, settings, steps_in_a_minute, expected
):
    pace = steps_in_a_minute * 256**2 * 8 / 60
    resolved = resolve(TrainConfig(**settings), training_set, on_gpu=False, cpu_pace=lambda spec: pace)
    assert (resolved.crop, resolved.batch) == expected
    usual = (settings.get("crop", 256), settings.get("batch", 8))
    assert resolved.is_made_smaller == (expected != usual)
    assert resolve(TrainConfig(minutes=1), training_set, on_gpu=True, cpu_pace=lambda spec: 1.0).crop == 512


def test_an_epoch_has_twenty_steps_or_as_many_as_see_every_labelled_pixel_once(training_set):
    few = resolve(TrainConfig(), training_set, on_gpu=False)
    nine_times = training_set.model_copy(update={"records": training_set.records * 9})
    many = resolve(TrainConfig(crop=32, batch=2), nine_times, on_gpu=False)
    assert few.steps_per_epoch == 20
    assert many.steps_per_epoch == round(9 * 2 * 96**2 / (32**2 * 2))


def test_grey_images_are_normalised_each_by_its_own_and_colour_by_the_set(training_set, tmp_path):
    _, colour = freeze_disks(tmp_path, channels=3)
    assert resolve(TrainConfig(), training_set, on_gpu=False).normalisation.kind == "image"
    assert resolve(TrainConfig(), colour, on_gpu=False).normalisation.kind == "training set"
    assert resolve(TrainConfig(), colour, on_gpu=False).network.channels == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet19"}, "encoder: 'resnet19' is unknown; did you mean resnet18"),
        ({"architecture": "unetplusplus", "encoder": "mit_b0"}, "encoder: 'mit_b0' does not fit unetplusplus"),
        ({"architecture": "deeplabv3plus", "encoder": "vgg11"}, "encoder: 'vgg11' does not fit deeplabv3plus"),
        (
            {"architecture": "deeplabv3plus", "batch": 1},
            "batch: deeplabv3plus with resnet18 cannot train on 1 x 256 px",
        ),
        ({"batch": 8, "num_workers": 3}, "batch: 8 crops cannot be shared by 3 workers"),
        ({"init_model": "a", "encoder_weights": "b"}, "encoder_weights: the earlier model already has an encoder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(training_set, settings, message):
    with pytest.raises(ConfigurationRefused, match=message):
        check(resolve(TrainConfig(**settings), training_set, on_gpu=False))


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "mit_b0"])
@pytest.mark.parametrize("architecture", ["unet", "fpn", "deeplabv3plus", "segformer"])
def test_every_architecture_takes_common_encoders(training_set, architecture, encoder):
    resolved = resolve(TrainConfig(architecture=architecture, encoder=encoder, crop=64), training_set, on_gpu=False)
    check(resolved)
    assert resolved.network.encoder == encoder
