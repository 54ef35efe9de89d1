import email
import io
import urllib.request

import pytest

from pyg_diffrec.datasets import _download as download_module
from pyg_diffrec.datasets._download import download_url


class Response(io.BytesIO):
    def __init__(self, content, headers=''):
        super().__init__(content)
        self.headers = email.message_from_string(headers)


@pytest.fixture
def answer(monkeypatch):
    def set_answer(*args):
        def urlopen(url, timeout):
            assert timeout > 0
            return Response(*args)

        monkeypatch.setattr(urllib.request, 'urlopen', urlopen)

    return set_answer


def test_download_is_the_whole_file(tmp_path, answer):
    content = bytes(range(256)) * 9000
    for headers in ('', f'Content-Length: {len(content)}\n\n'):
        answer(content, headers)
        path = download_url('https://example.org/a/b.rar', str(tmp_path))
        assert path == str(tmp_path / 'b.rar')
        assert (tmp_path / 'b.rar').read_bytes() == content


def test_download_that_breaks_off_or_never_ends_is_an_error(
    tmp_path, answer, monkeypatch
):
    answer(b'abc', 'Content-Length: 4\n\n')
    with pytest.raises(OSError, match='only 3 of 4 bytes arrived'):
        download_url('https://example.org/a', str(tmp_path))
    monkeypatch.setattr(download_module, '_LARGEST', 10)
    answer(bytes(11))
    with pytest.raises(OSError, match='more than 10 bytes'):
        download_url('https://example.org/a', str(tmp_path))
