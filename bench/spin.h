/* How the load generator and the mock upstream await events: asleep, or spinning for as long as there is work.
 *
 * On one machine a gateway that writes to a sleeping peer pays for waking it, a quarter of a lean gateway's time; peers behind a
 * network card are never woken by it. A peer that spins polls without waiting until nothing has happened for 100 ms, and
 * yields between: the mock and the callers share a core, and a session, within which yielding works.
 */
#ifndef BENCH_SPIN_H
#define BENCH_SPIN_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#define SPIN_NANOSECONDS 100000000LL

/* epoll_pwait2 (epoll_wait counts in whole milliseconds); a spinning caller may get 0 before `limit`, and looks at its
 * timers then. */
static int await_events(int poller, struct epoll_event *events, int most, const struct timespec *limit, bool spin)
{
    static const struct timespec at_once = {0, 0};
    static int64_t last;
    if (!spin) return epoll_pwait2(poller, events, most, limit, NULL);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    bool idle = now - last > SPIN_NANOSECONDS;
    int n = epoll_pwait2(poller, events, most, idle ? limit : &at_once, NULL);
    if (n > 0 && idle) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    if (n > 0) last = now;
    else if (!idle) sched_yield();
    return n;
}

#endif
