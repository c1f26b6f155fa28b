"""For tests in which a client or a worker has to do something within a time that the front measures, and that is
short or fixed. Who is stopped for longer, on a busy machine, is rightly given up by the front: such a failure
says nothing, and the test is run again, on a new site."""
import contextlib
import functools
import threading
import time

TIMES = 5               # a test is run at most


class HeldUp(Exception):
    """Something took too long for what failed to prove anything."""


@contextlib.contextmanager
def within(seconds):
    """For a body that takes far less than these seconds, after which the front does something else. One that
    fails earlier has failed; one that fails later was held up, or the front was."""
    start = time.monotonic()
    try:
        yield
    except Exception as e:
        took = time.monotonic() - start
        if took < seconds - 0.05:       # the front's clock counts from the turn of its loop
            raise
        raise HeldUp("failed after %.3f s, which is too late to tell" % took) from e


class Pulse(threading.Thread):
    """Notices for how long this process was held up at most."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest, self.last = 0.0, time.monotonic()
        self.closing = threading.Event()
        self.start()

    def _beat(self):
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now

    def run(self):
        while not self.closing.wait(0.01):
            self._beat()

    def stop(self):
        if not self.closing.is_set():
            self.closing.set()
            self.join()
            self._beat()
        return self.longest


def patient(seconds=float("inf")):
    """Decorates a test: it is run again where it was HeldUp, or failed and this process had been held up for so
    many seconds, which its clients or workers do not have."""
    def decorate(test):
        @functools.wraps(test)
        def run(*arguments, **keys):
            for _ in range(TIMES - 1):
                pulse = Pulse()
                try:
                    return test(*arguments, **keys)
                except HeldUp as e:
                    print("again:", e)
                except Exception as e:
                    if pulse.stop() < seconds:
                        raise
                    print("again, held up for %.3f s: %r" % (pulse.longest, e))
                finally:
                    pulse.stop()
            return test(*arguments, **keys)
        return run
    return decorate
