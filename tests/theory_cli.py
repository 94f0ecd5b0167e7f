"""How tests ask `quadrate theory`, and read what it says."""

from quadrate.cli import main


def asked(capsys, *arguments):
    """What `quadrate theory` prints."""
    main(["theory", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert not err
    return out


def number(capsys, *arguments):
    out = asked(capsys, *arguments)
    assert out.count("\n") == 1
    return float(out)
