#pragma once

#include <sys/types.h>

#include "common/base.h"

/* What /proc/PID/stat says. */
struct process_stat {
    char name[16]; /* as the process calls itself; any bytes */
    bool zombie;   /* it has ended, and was not waited for yet */
    pid_t parent;
    pid_t group;
    pid_t session;
    uint64_t birth;  /* ticks after boot */
    bool stopped;    /* by a signal, or a debugger */
    uint64_t cpu_ms; /* that it has had so far */
    uint64_t memory; /* bytes that are resident */
};

/* False where there is no such process, or /proc does not show it. */
bool process_stat(pid_t pid, struct process_stat *ret_stat);

/* When a process was born; 0 where there is none. */
uint64_t process_birth(pid_t pid);

/*
 * Whether the process group and session that `leader` has led, which was born then, has members,
 * though the leader is gone. All processes are looked at.
 */
bool process_group_lives(pid_t leader, uint64_t birth);

/*
 * Whether it is a child of this process that nothing has waited for yet: only then waitpid() tells
 * of its end, and no other process can get its PID before.
 */
bool process_is_child(pid_t pid);

/* What tells a process from all that have its PID before and after it, while the system runs. */
struct process_mark {
    uint64_t birth; /* ticks after boot, as in /proc/PID/stat; 0: /proc does not show it to us */
    uint64_t ino;   /* of its pidfd, from Linux 6.9 on; 0: the kernel does not number them */
};

/* Of a process that exists; pidfd: borrowed, -1: one is opened for it. */
struct process_mark process_mark(pid_t pid, int pidfd);

/*
 * Whether the process of that pidfd is the one that had the mark. A mark without anything is none.
 */
bool process_is(const struct process_mark *mark, pid_t pid, int pidfd);

enum { PROCESS_BOOT_SIZE = 37 };

/* Which run of the system this is: a mark holds within one. Empty where it is not known. */
void process_boot(char ret_boot[PROCESS_BOOT_SIZE]);
