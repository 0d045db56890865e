"""Keeping passwords."""

import threading

from axons.app import passwords


def test_a_password_is_kept_as_argon2id_of_the_owasp_sheet():
    assert passwords.hash_password("secret").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_only_the_right_password_fits():
    hashed = passwords.hash_password("secret")
    assert passwords.verify(hashed, "secret")
    assert not passwords.verify(hashed, "Secret")


def test_nothing_fits_an_account_without_a_password():
    assert not passwords.verify(None, "secret")


def test_what_is_no_hash_fits_nothing():
    assert not passwords.verify("not a hash", "secret")


def test_at_most_four_passwords_are_hashed_at_once(monkeypatch):
    inside, most, lock = [], [], threading.Lock()

    class Slow:
        def hash(self, _password: str) -> str:
            with lock:
                inside.append(1)
                most.append(len(inside))
            threading.Event().wait(0.02)
            with lock:
                inside.pop()
            return ""

    monkeypatch.setattr(passwords, "_HASHER", Slow())
    threads = [threading.Thread(target=passwords.hash_password, args=("x",)) for _ in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert max(most) == 4


def test_first_passwords_are_all_different():
    assert len({passwords.new_password() for _ in range(100)}) == 100
