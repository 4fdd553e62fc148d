"""`contained.py DIRECTORY... -- COMMAND...`: runs a command that can write only below these directories.

This stands for a container's read-only root file system. It uses Landlock (Linux 5.19), which needs no privileges. A
kernel without Landlock runs the command uncontained, with a message on stderr.
"""

import ctypes
import os
import sys

# Source: linux/landlock.h, asm-generic/unistd.h, linux/prctl.h
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PATH_BENEATH = 1
WRITE_FILE, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 4, 1 << 5
MAKE_ANY = sum(1 << bit for bit in range(6, 13))
MOVE = 1 << 13  # moving between directories; kernels before 5.19 lack this right and refuse each such move
WRITES = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_ANY | MOVE
VERSION_ASKED, OLDEST = 1, 2
NO_NEW_PRIVS, DIE_WITH_PARENT = 38, 1


class RulesetAttribute(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def contain(directories: list[str]) -> bool:
    """Deny this process, permanently, to write elsewhere; return whether the kernel supports it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(CREATE_RULESET, None, 0, VERSION_ASKED) < OLDEST:
        return False
    attribute = RulesetAttribute(WRITES)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(attribute), ctypes.sizeof(attribute), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "no ruleset")
    for directory in directories:
        place = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        rule = PathBeneath(WRITES, place)
        if libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"no rule for {directory}")
        os.close(place)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "can't be contained")
    return True


def main(arguments: list[str]) -> None:
    """Contain this process and become the command."""
    end = arguments.index("--")
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, 9)
    if not contain([*arguments[:end], "/dev"]):
        print("no Landlock here: the root file system is writable", file=sys.stderr)
    command = arguments[end + 1 :]
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
