/* A disk whose sync takes as long as a slow one's, whatever the machine has: preloaded into the
 * broker. How many requests share a sync depends on how long a sync takes; on a fast disk and a
 * busy machine each would have few. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
    const struct timespec delay = {0, 20 * 1000 * 1000};
    nanosleep(&delay, NULL);
    return (int)syscall(SYS_fdatasync, fd);
}
