/* Preloaded into the child of power_loss.rs: writes down, in their order, all changes to files below RECORD_DIR and
 * all syncs, in RECORD_TO. One record: op, length of the path (2 bytes), path, offset (8), length (4), bytes;
 * little-endian. Ops: w write, t truncate to the offset, s sync, u unlink. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;

static void put(char op, const char *path, uint64_t offset, const void *data, uint32_t len) {
    int saved = errno;
    uint16_t path_len = (uint16_t)strlen(path);
    if (out < 0) out = open(getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    size_t size = 1 + 2 + path_len + 8 + 4 + (size_t)len;
    char *record = malloc(size), *at = record;
    *at++ = op;
    memcpy(at, &path_len, 2), at += 2;
    memcpy(at, path, path_len), at += path_len;
    memcpy(at, &offset, 8), at += 8;
    memcpy(at, &len, 4), at += 4;
    if (len > 0) memcpy(at, data, len);
    if (syscall(SYS_write, out, record, size) != (long)size) abort();
    free(record);
    errno = saved;
}

/* The path behind a descriptor, when it is one of ours. */
static int is_ours(int fd, char path[4096]) {
    const char *dir = getenv("RECORD_DIR");
    int saved = errno;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = dir ? readlink(link, path, 4095) : -1;
    errno = saved;
    if (len < 0) return 0;
    path[len] = 0;
    return strncmp(path, dir, strlen(dir)) == 0;
}

static ssize_t written(int fd, const void *data, size_t n, off_t offset, int has_offset) {
    char path[4096];
    pthread_mutex_lock(&lock);
    ssize_t done = has_offset ? syscall(SYS_pwrite64, fd, data, n, offset) : syscall(SYS_write, fd, data, n);
    if (done > 0 && is_ours(fd, path)) {
        uint64_t at = has_offset ? (uint64_t)offset : (uint64_t)(lseek(fd, 0, SEEK_CUR) - done);
        put('w', path, at, data, (uint32_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

static int told(char op, long number, int fd, off_t size) {
    char path[4096];
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(number, fd, size);
    if (failed == 0 && is_ours(fd, path)) put(op, path, (uint64_t)size, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}

ssize_t write(int fd, const void *data, size_t n) { return written(fd, data, n, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return written(fd, data, n, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return written(fd, data, n, at, 1); }
int ftruncate(int fd, off_t size) { return told('t', SYS_ftruncate, fd, size); }
int ftruncate64(int fd, off_t size) { return told('t', SYS_ftruncate, fd, size); }
int fsync(int fd) { return told('s', SYS_fsync, fd, 0); }
int fdatasync(int fd) { return told('s', SYS_fdatasync, fd, 0); }

int unlink(const char *path) {
    const char *dir = getenv("RECORD_DIR");
    pthread_mutex_lock(&lock);
    int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (failed == 0 && dir && strncmp(path, dir, strlen(dir)) == 0) put('u', path, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return failed;
}
