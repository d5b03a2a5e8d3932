/* The wall clock of an hour ago, preloaded into the broker: what it writes is old data to the one
 * that reads it later, and reading it is catching up. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec -= 60 * 60;
    return failed;
}
