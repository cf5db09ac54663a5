import os
import signal
import threading

import pytest

from ddarts.runtime.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_request(number):
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


def test_the_second_signal_interrupts_at_once():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_request_that_nobody_has_read_reaches_the_handler_from_before():
    with StopRequest() as outer:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)  # after the last step, in an evaluation say
        assert outer.requested
    with StopRequest() as outer:
        with StopRequest() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.requested
        assert not outer.requested


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        before = signal.getsignal(signal.SIGINT)
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGINT) == before, stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, False)]
