"""Become a program that does not hear of the machine's network interfaces: `python without_netlink.py PROGRAM [ARGUMENT...]`

Chromium listens for changes of all addresses (rtnetlink(7), RTMGRP_IPV4_IFADDR) and gives up the connections that it is just
opening, those to 127.0.0.1 too: `net::ERR_NETWORK_CHANGED`. Containers that start or end elsewhere on the machine are such
changes. It has no switch for that; without a netlink socket it takes the network for connected.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

import pyseccomp


def become(program: str, *arguments: str) -> None:
    """Run `program` in place of this one, with `socket(AF_NETLINK, ...)` refused by EACCES, for it and all that it starts.

    Raises:
        OSError: the kernel takes no filter (seccomp(2)), or there is no such program.
    """
    refused = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    refused.add_rule(pyseccomp.ERRNO(errno.EACCES), "socket", pyseccomp.Arg(0, pyseccomp.EQ, int(socket.AF_NETLINK)))
    refused.load()
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    become(*sys.argv[1:])
