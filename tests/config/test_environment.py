"""`REGISTRY_*` and `STACKYARD_*`."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.config.conftest import LoadText

from stackyard.config.environment import override
from stackyard.config.load import load

Refusals = Callable[..., list[str]]


def test_the_guides_docker_run_lines_work_on_the_default_file(loaded: LoadText) -> None:
    result = loaded(
        "storage: {filesystem: {rootdirectory: /var/lib/registry}}",
        REGISTRY_HTTP_ADDR="0.0.0.0:443",
        REGISTRY_HTTP_TLS_CERTIFICATE="/certs/domain.crt",
        REGISTRY_HTTP_TLS_KEY="/certs/domain.key",
        REGISTRY_AUTH="htpasswd",
        REGISTRY_AUTH_HTPASSWD_REALM="Registry Realm",
        REGISTRY_AUTH_HTPASSWD_PATH="/auth/htpasswd",
        REGISTRY_STORAGE_DELETE_ENABLED="true",
        REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS="100",
    )

    config = result.config
    assert result.warnings == ()
    assert (config.http.addr, config.http.tls.certificate) == ("0.0.0.0:443", "/certs/domain.crt")
    assert config.auth.htpasswd is not None
    assert (config.auth.htpasswd.realm, config.auth.htpasswd.path) == ("Registry Realm", "/auth/htpasswd")
    assert config.storage.delete.enabled
    assert config.storage.filesystem is not None
    assert (config.storage.filesystem.rootdirectory, config.storage.filesystem.maxthreads) == ("/var/lib/registry", 100)


def test_environment_counts_without_any_file() -> None:
    assert load(None, {"REGISTRY_HTTP_ADDR": ":5001"}).config.http.addr == ":5001"


@pytest.mark.parametrize("name", ["REGISTRY_LOG_LEVEL", "REGISTRY_LOGLEVEL", "REGISTRY_log_level"])
def test_level_can_be_set_by_either_name(loaded: LoadText, name: str) -> None:
    assert loaded(**{name: "debug"}).config.log.level == "debug"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", '{"enabled": true}'),
        ("REGISTRY_STORAGE_MAINTENANCE", "{readonly: {enabled: true}}"),
    ],
)
@pytest.mark.parametrize("text", ["", "storage: {filesystem: {}, maintenance: {uploadpurging: {enabled: false}}}"])
def test_readonly_can_be_set_though_the_file_lacks_it(loaded: LoadText, name: str, value: str, text: str) -> None:
    assert loaded(text, **{name: value}).config.storage.maintenance.readonly.enabled


def test_uploadpurging_can_be_set_though_the_file_lacks_it(loaded: LoadText) -> None:
    maintenance = loaded(
        REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED="false",
        REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE="1h30m",
    ).config.storage.maintenance

    assert maintenance.uploadpurging.enabled is False
    assert maintenance.uploadpurging.age == timedelta(minutes=90)


def test_naming_a_driver_replaces_the_whole_section(loaded: LoadText) -> None:
    text = (
        "storage: {filesystem: {rootdirectory: /a}, delete: {enabled: true}, maintenance: {readonly: {enabled: true}}}"
    )

    storage = loaded(text, REGISTRY_STORAGE="inmemory", REGISTRY_STORAGE_REDIRECT_DISABLE="true").config.storage

    assert storage.inmemory is not None
    assert storage.filesystem is None
    assert (storage.delete.enabled, storage.maintenance.readonly.enabled) == (False, False)
    assert storage.redirect.disable


def test_object_storage_on_top_of_a_file_system_is_refused(refusals: Refusals) -> None:
    problems = refusals(
        "storage: {filesystem: {}}", REGISTRY_STORAGE_S3_BUCKET="b", REGISTRY_STORAGE_S3_SECRETKEY="hunter2"
    )

    assert problems == [
        "storage: has two drivers, filesystem and s3; keep one (REGISTRY_STORAGE=<driver> replaces the section)"
    ]


def test_naming_a_login_replaces_the_files(loaded: LoadText) -> None:
    auth = loaded("auth: {htpasswd: {realm: a, path: b}}", REGISTRY_AUTH="none").config.auth

    assert auth.htpasswd is None
    assert auth.none is not None


def test_second_login_beside_the_files_is_refused(refusals: Refusals) -> None:
    problems = refusals(
        "auth: {htpasswd: {realm: a, path: b}}", REGISTRY_AUTH_SILLY_REALM="a", REGISTRY_AUTH_SILLY_SERVICE="b"
    )

    assert problems[0].startswith("auth: has silly, htpasswd; keep exactly one")


def test_empty_auth_variable_does_not_open_the_door(loaded: LoadText) -> None:
    result = loaded("auth: {htpasswd: {realm: a, path: b}}", REGISTRY_AUTH=" ")

    assert result.config.auth.htpasswd is not None
    assert "REGISTRY_AUTH: is empty and ignored" in result.warnings[0]


@pytest.mark.parametrize("name", ["REGISTRY_AUTH_HTPASWD_PATH", "REGISTRY_AUTH_LDAP", "REGISTRY_STORAGE_FILESYTEM"])
def test_slip_in_auth_or_storage_stops_the_start(refusals: Refusals, name: str) -> None:
    assert refusals(**{name: "x"})[0].startswith(f"{name}: unknown key")


@pytest.mark.parametrize(
    ("environ", "headers"),
    [
        (
            {"REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin": '["*"]'},
            {"X-Content-Type-Options": ("nosniff",), "Access-Control-Allow-Origin": ("*",)},
        ),
        ({"REGISTRY_HTTP_HEADERS_X-CONTENT-TYPE-OPTIONS": "[other]"}, {"X-Content-Type-Options": ("other",)}),
        ({"REGISTRY_HTTP_HEADERS_X-Content-Type-Options_1": "b"}, {"X-Content-Type-Options": ("nosniff", "b")}),
        ({"REGISTRY_HTTP_HEADERS_X_Odd": "v"}, {"X-Content-Type-Options": ("nosniff",), "X_Odd": ("v",)}),
        ({"REGISTRY_HTTP_HEADERS": "{Via: [me]}"}, {"Via": ("me",)}),
    ],
)
def test_headers_are_merged_by_name_without_regard_to_case(
    loaded: LoadText, environ: dict[str, str], headers: dict[str, tuple[str, ...]]
) -> None:
    assert loaded("http: {headers: {X-Content-Type-Options: [nosniff]}}", **environ).config.http.headers == headers


def test_fields_are_added_in_lower_case(loaded: LoadText) -> None:
    fields = loaded("log: {fields: {service: a}}", REGISTRY_LOG_FIELDS_SERVICE="b", REGISTRY_LOG_FIELDS_MY_NODE="n")

    assert fields.config.log.fields == {"service": "b", "my_node": "n"}


@pytest.mark.parametrize(
    ("environ", "kept"),
    [
        ({"REGISTRY_HTTP_TLS_CLIENTCAS": '["/a", "/b"]'}, ("/a", "/b")),
        ({"REGISTRY_HTTP_TLS_CLIENTCAS": "/a"}, ("/a",)),
        ({"REGISTRY_HTTP_TLS_CLIENTCAS_0": "/new"}, ("/new", "/second")),
        ({"REGISTRY_HTTP_TLS_CLIENTCAS_2": "/third"}, ("/first", "/second", "/third")),
        (
            {f"REGISTRY_HTTP_TLS_CLIENTCAS_{place}": f"/{place}" for place in range(12)},
            tuple(f"/{place}" for place in range(12)),
        ),
    ],
)
def test_lists_are_set_whole_or_by_number(loaded: LoadText, environ: dict[str, str], kept: tuple[str, ...]) -> None:
    text = "http: {tls: {certificate: c, key: k, clientcas: [/first, /second]}}"

    assert loaded(text, **environ).config.http.tls.clientcas == kept


def test_gap_in_a_list_is_refused(refusals: Refusals) -> None:
    problems = refusals(REGISTRY_HTTP_TLS_CLIENTCAS_3="/a")

    assert problems == [
        "REGISTRY_HTTP_TLS_CLIENTCAS_3: item 3 would leave a gap; http.tls.clientcas has 0 items, counted from 0"
    ]


def test_items_of_a_list_of_maps_are_set_by_number(loaded: LoadText) -> None:
    tcp = loaded(
        "health: {tcp: [{addr: 'a:1', threshold: 5}]}",
        REGISTRY_HEALTH_TCP_0_ADDR="b:1",
        REGISTRY_HEALTH_TCP_1_ADDR="c:1",
        REGISTRY_HEALTH_TCP_1_INTERVAL="3s",
    ).config.health.tcp

    assert [(check.addr, check.threshold) for check in tcp] == [("b:1", 5), ("c:1", 0)]
    assert tcp[1].interval == timedelta(seconds=3)


@pytest.mark.parametrize(
    "names",
    [
        ("REGISTRY_HEALTH_FILE_0_FILE", "REGISTRY_HEALTH_HTTP_0_URI", "REGISTRY_HEALTH_TCP_0_ADDR"),
        (
            "REGISTRY_HEALTH_FILECHECKERS_0_FILE",
            "REGISTRY_HEALTH_HTTPCHECKERS_0_URI",
            "REGISTRY_HEALTH_TCPCHECKERS_0_ADDR",
        ),
    ],
)
def test_health_goes_by_the_name_of_the_key_and_of_the_field(loaded: LoadText, names: tuple[str, str, str]) -> None:
    health = loaded(**dict(zip(names, ("/down", "http://x/", "a:1"), strict=True))).config.health

    assert (health.file[0].file, health.http[0].uri, health.tcp[0].addr) == ("/down", "http://x/", "a:1")


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES": "true"}, "notifications"),
        ({"REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES": "true"}, "notifications"),
        ({"REGISTRY_NOTIFICATIONS_ENDPOINTS": "[]"}, "notifications"),
        ({"REGISTRY_LOG_HOOKS_0_MAILOPTIONS_FROM": "a@b", "REGISTRY_LOG_HOOKS_0_DISABLED": "true"}, "log.hooks"),
        ({"REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "redis"}, "storage.cache"),
        ({"REGISTRY_STORAGE_CACHE": "{blobdescriptor: redis}"}, "storage.cache"),
        ({"REGISTRY_REDIS_ADDR": "x:1", "REGISTRY_REDIS_POOL_MAXIDLE": "1"}, "redis"),
        ({"REGISTRY_REDIS_ADDRS": "[x:1]"}, "redis"),
        ({"REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED": "true"}, "http.debug.prometheus"),
        ({"REGISTRY_PROXY_PASSWORD": "x"}, "proxy"),
    ],
)
def test_harmless_variable_leaves_one_notice(loaded: LoadText, environ: dict[str, str], key: str) -> None:
    result = loaded(**environ)

    assert [notice.partition(":")[0] for notice in result.notices] == [key]
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"REGISTRY_PROXY_REMOTEURL": "https://registry-1.docker.io"}, "proxy.remoteurl"),
        ({"REGISTRY_STORAGE": "swift", "REGISTRY_STORAGE_SWIFT_CONTAINER": "c"}, "storage.swift"),
        ({"REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS_0": "registry.example.com"}, "http.tls.letsencrypt"),
        ({"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL": "http://x"}, "notifications.endpoints"),
        ({"REGISTRY_MIDDLEWARE_STORAGE": "[{name: cloudfront}]"}, "middleware.storage"),
        ({"REGISTRY_HTTP_TLS_CIPHERSUITES": "[TLS_AES_128_GCM_SHA256]"}, "http.tls.ciphersuites"),
    ],
)
def test_refused_variable_is_refused_by_its_key(refusals: Refusals, environ: dict[str, str], key: str) -> None:
    assert [problem.partition(":")[0] for problem in refusals(**environ)] == [key]


SERVICE_LINKS = {
    "REGISTRY_PORT": "tcp://10.0.0.1:5000",
    "REGISTRY_PORT_5000_TCP": "tcp://10.0.0.1:5000",
    "REGISTRY_PORT_5000_TCP_ADDR": "10.0.0.1",
    "REGISTRY_PORT_5000_TCP_PORT": "5000",
    "REGISTRY_PORT_5000_TCP_PROTO": "tcp",
    "REGISTRY_SERVICE_HOST": "10.0.0.1",
    "REGISTRY_SERVICE_PORT": "5000",
    "REGISTRY_SERVICE_PORT_HTTPS": "443",
    "REGISTRY_HTTP_PORT": "udp://10.0.0.1:5000",
    "REGISTRY_HTTP_PORT_5000_TCP_ADDR": "10.0.0.1",
    "REGISTRY_HTTP_SERVICE_HOST": "10.0.0.1",
    "REGISTRY_AUTH_PORT": "tcp://10.0.0.2:5001",
    "REGISTRY_AUTH_SERVICE_HOST": "10.0.0.2",
    "REGISTRY_AUTH_SERVICE_PORT_AUTH_WEB": "5001",
    "REGISTRY_STORAGE_PORT_9000_TCP": "tcp://10.0.0.3:9000",
    "REGISTRY_REDIS_SERVICE_HOST": "10.0.0.4",
    "REGISTRY_VERSION": "2.8.3",
    "STACKYARD_PORT": "tcp://10.0.0.1:5000",
    "STACKYARD_SERVICE_HOST": "10.0.0.1",
    "STACKYARD_ACCESS_PORT_80_TCP_PROTO": "tcp",
}


def test_variables_kubernetes_makes_for_services_are_ignored_in_silence(loaded: LoadText) -> None:
    result = loaded(**SERVICE_LINKS)

    assert result.config == loaded().config
    assert result.warnings == result.notices == ()
    assert set(result.ignored) == set(SERVICE_LINKS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("REGISTRY_HTTP_ADDRESS", "; did you mean REGISTRY_HTTP_ADDR?"),
        ("REGISTRY_HTPP_ADDR", "; did you mean REGISTRY_HTTP_ADDR?"),
        ("REGISTRY_HTTP_TLS_CERTIFICAT", "; did you mean REGISTRY_HTTP_TLS_CERTIFICATE?"),
        ("REGISTRY_ZZZZZZZZZZZZZZZ", ""),
        ("REGISTRY_", ""),
        ("REGISTRY_HTTP_ADDR_X", "; did you mean REGISTRY_HTTP_ADDR?"),
    ],
)
def test_unknown_variable_warns_and_names_the_nearest(loaded: LoadText, name: str, hint: str) -> None:
    result = loaded(**{name: "hunter2"})

    assert result.warnings == (f"{name}: unknown key, ignored{hint}",)
    assert result.config == loaded().config


def test_our_own_keys_are_set_by_our_own_prefix(loaded: LoadText) -> None:
    ours = loaded(
        STACKYARD_WORKERS="3",
        STACKYARD_TRUSTEDPROXIES="10.0.0.0/8, 192.0.2.1",
        STACKYARD_ADMINS='["alice"]',
        STACKYARD_DATABASE_URL="postgresql://u:p#w@db/registry",
        STACKYARD_ACCESS_GROUPS_DEVS="[alice, bob]",
        STACKYARD_ACCESS_RULES_0_ANONYMOUS="true",
        STACKYARD_ACCESS_RULES_0_REPOSITORIES="**",
        STACKYARD_ACCESS_RULES_0_ACTIONS="pull",
        STACKYARD_LIMITS_MANIFESTSIZE="8MiB",
        STACKYARD_GC_PROMISE="10s",
    ).config.stackyard

    assert (ours.workers, ours.admins, ours.limits.manifestsize) == (3, ("alice",), 8 * 2**20)
    assert [str(network) for network in ours.trustedproxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert ours.database.url.get_secret_value() == "postgresql://u:p#w@db/registry"
    assert ours.access.groups == {"devs": ("alice", "bob")}
    assert ours.access.rules[0].repositories == "**"
    assert ours.gc.promise == timedelta(seconds=10)


@pytest.mark.parametrize("name", ["STACKYARD_WORKER", "STACKYARD_ACESS_RULES", "STACKYARD_LIMITS_MANIFEST"])
def test_slip_in_our_own_keys_stops_the_start(refusals: Refusals, name: str) -> None:
    assert refusals(**{name: "1"})[0].startswith(f"{name}: unknown key")


def test_stranger_with_our_prefix_only_warns(loaded: LoadText) -> None:
    assert loaded(STACKYARD_TEST_SERVER="http://x").warnings == ("STACKYARD_TEST_SERVER: unknown key, ignored",)


@pytest.mark.parametrize("value", ["@secret", "#secret", "a: b", "*secret", "[1, 2", "{a", "%x", "`x", "0123", "yes"])
def test_text_that_is_no_plain_yaml_means_itself(loaded: LoadText, value: str) -> None:
    assert loaded(REGISTRY_HTTP_SECRET=value).config.http.secret.get_secret_value() == value


def test_quoted_text_is_unquoted_as_yaml_says(loaded: LoadText) -> None:
    assert loaded(REGISTRY_HTTP_SECRET='"a b"').config.http.secret.get_secret_value() == "a b"


@pytest.mark.parametrize("value", ["", "~", "null"])
def test_empty_value_means_the_default(loaded: LoadText, value: str) -> None:
    config = loaded("http: {debug: {addr: ':5001'}}", REGISTRY_HTTP_DEBUG_ADDR=value).config

    assert config.http.debug.addr == ""


@pytest.mark.parametrize("name", ["REGISTRY_STORAGE_DELETE_ENABLED", "REGISTRY_HTTP", "REGISTRY_HEALTH_TCP"])
def test_value_that_is_no_yaml_is_refused_without_repeating_it(refusals: Refusals, name: str) -> None:
    assert refusals(**{name: "[hunter2"}) == [f"{name}: is not valid YAML; quote the value"]


def test_variable_below_something_that_is_no_map_is_refused(refusals: Refusals) -> None:
    assert "REGISTRY_HTTP_ADDR: http is no map in the file" in refusals("http: [x]", REGISTRY_HTTP_ADDR=":1")


def test_the_tree_given_is_left_as_it_was() -> None:
    tree = {"http": {"addr": ":1", "tls": {"clientcas": ["/a"]}}}

    override(tree, {"REGISTRY_HTTP_ADDR": ":2", "REGISTRY_HTTP_TLS_CLIENTCAS_0": "/b"})  # type: ignore[arg-type]

    assert tree == {"http": {"addr": ":1", "tls": {"clientcas": ["/a"]}}}
