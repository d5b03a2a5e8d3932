/* Preloaded into the broker: when it is told to stop, an hour passes on its monotonic clock. What
 * it wrote is old data then to the one that reads it later, by the clock that the log ages by, which
 * its last checkpoint holds; reading it is catching up. The wall clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t told;
static void (*handle)(int, siginfo_t *, void *);

static void stop(int signal, siginfo_t *info, void *context)
{
    told = 1;
    if (handle)
        handle(signal, info, context);
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *before)
{
    int (*next)(int, const struct sigaction *, struct sigaction *) = dlsym(RTLD_NEXT, "sigaction");
    if (signal != SIGTERM || !action || !(action->sa_flags & SA_SIGINFO))
        return next(signal, action, before);
    handle = action->sa_sigaction;
    struct sigaction ours = *action;
    ours.sa_sigaction = stop;
    return next(signal, &ours, before);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_MONOTONIC && told)
        now->tv_sec += 60 * 60;
    return failed;
}
