import pytest

from migsvc.config import ConfigError, Limits, Settings, default_data_dir, is_loopback


def test_every_setting_is_read_from_its_variable(tmp_path):
    values = {
        "MIGSVC_PORT": "0",
        "MIGSVC_DATA_DIR": str(tmp_path),
        "MIGSVC_NAME": "host-x",
        "MIGSVC_ON_EXIT": "stop",
        "MIGSVC_SCHEMA_VERSION": "1",
        "MIGSVC_SMM_CARRIERS": "none",
        "MIGSVC_MAX_VMS": "3",
        "MIGSVC_TEST_STALL": "source:precopy:1.5",
        "MIGSVC_SERVER": "http://of-the-cli",
    }
    settings = Settings.from_env(values)
    assert (settings.port, settings.data_dir, settings.name) == (0, tmp_path, "host-x")
    assert (settings.schema_version, settings.smm_carriers) == (1, "none")
    assert (settings.on_exit, settings.max_vms, settings.test_stall) == ("stop", 3, "source:precopy:1.5")


def test_arguments_win_over_the_environment_and_none_is_no_argument():
    settings = Settings.from_env({"MIGSVC_PORT": "1", "MIGSVC_NAME": "a"}, port=2, name=None)
    assert (settings.port, settings.name) == (2, "a")


def test_every_refused_setting_is_named_with_its_variable():
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"MIGSVC_PORT": "many", "MIGSVC_MAX_VMS": "0", "MIGSVC_SCHEMA_VERSION": "3"})
    wrong = ("MIGSVC_PORT", "MIGSVC_MAX_VMS", "MIGSVC_SCHEMA_VERSION")
    assert all(name in str(caught.value) for name in wrong)


@pytest.mark.parametrize("field", ["host", "migration_host"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_addresses_than_loopback_need_a_token(field, address, tmp_path):
    with pytest.raises(ConfigError, match=f"{field} .* is not a loopback address"):
        Settings.from_env({}, **{field: address})
    assert getattr(Settings.from_env({}, token_file=tmp_path / "token", **{field: address}), field) == address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_is_known(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["localhost.example", "127.0.0.1.example", "0177.0.0.1", "1", ""])
def test_what_only_looks_like_loopback_is_not(address):
    assert not is_loopback(address)


def test_a_token_is_one_line_without_blanks(tmp_path):
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    assert Settings(token_file=path).read_token() == "0123456789abcdef"
    assert Settings().read_token() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"short\n", b"two words of text here", b"line one is long\nline two is long", b"\xff" * 20, b"x" * 5000],
)
def test_a_file_that_holds_no_token_is_refused_without_repeating_it(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="token_file") as caught:
        Settings(token_file=path).read_token()
    assert "words" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Settings(token_file=tmp_path / "none").read_token()


def test_every_limit_has_a_reason():
    assert all(field.description for field in Limits.model_fields.values())
    assert all(field.description for field in Settings.model_fields.values())


def test_the_data_directory_follows_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "migsvc"


def test_settings_cannot_be_misspelt_or_changed():
    with pytest.raises(ValueError, match="extra"):
        Settings(prot=1)
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1
