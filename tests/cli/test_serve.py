"""`lapactl serve`, as a user types it; the server itself is tested in `tests/serving`."""


def test_a_dry_run_prints_settings_as_they_are_typed(lapactl):
    done = lapactl("serve", "work/policy", "--port", 18793, "--dry-run")
    shown = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert shown["port"].strip() == "18793", "a port is no amount"
    assert shown["max request bytes"].strip() == "16,777,216"


def test_numbers_that_are_names_have_no_separators():
    from lapactl.output import readable

    assert (readable(18793, "port"), readable(1234, "version"), readable({"port": 8793})) == (
        "18793",
        "1234",
        "port 8793",
    )
    assert readable(18793, "episodes") == "18,793"
