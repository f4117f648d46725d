"""At most so many at one time, over all processes."""

import os
import threading

from stackyard.auth.slots import Slots


def test_half_of_the_cores_and_one_at_least() -> None:
    assert [Slots.for_cores(cores).count for cores in (1, 2, 3, 4, 8)] == [1, 1, 1, 2, 4]


def test_threads_of_one_process_never_hold_more_than_there_are() -> None:
    slots = Slots(2)
    holding, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal holding, most
        for _ in range(50):
            with slots.hold():
                with lock:
                    holding += 1
                    most = max(most, holding)
                with lock:
                    holding -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 <= most <= 2
    slots.close()


def test_slot_held_by_another_process_is_not_given_out_until_that_one_is_gone() -> None:
    slots = Slots(1)
    taken_in, taken_out = os.pipe()
    leave_in, leave_out = os.pipe()
    child = os.fork()
    if not child:
        with slots.hold():
            os.write(taken_out, b"x")
            os.read(leave_in, 1)
            os._exit(0)  # within the block: the kernel, not we, gives the slot back
    os.read(taken_in, 1)
    got = threading.Event()

    def take() -> None:
        with slots.hold():
            got.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not got.wait(0.2)

    os.write(leave_out, b"x")
    os.waitpid(child, 0)
    assert got.wait(10)
    thread.join()


def test_free_slot_is_found_while_another_process_holds_the_first() -> None:
    slots = Slots(2)
    taken_in, taken_out = os.pipe()
    leave_in, leave_out = os.pipe()
    child = os.fork()
    if not child:
        with slots.hold():
            os.write(taken_out, b"x")
            os.read(leave_in, 1)
            os._exit(0)
    os.read(taken_in, 1)

    with slots.hold():
        os.write(leave_out, b"x")

    os.waitpid(child, 0)
