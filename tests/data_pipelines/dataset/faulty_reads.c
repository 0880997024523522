/* Preloaded: reads of files whose path holds $FAULTY_NAME fail with EIO, so many times as the file $FAULTY_COUNT says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int faulty(int fd) {
  const char *name = getenv("FAULTY_NAME"), *count = getenv("FAULTY_COUNT");
  char link[64], path[4096];
  int left = 0;
  if (!name || !count) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, name)) return 0;
  FILE *file = fopen(count, "r");
  if (!file) return 0;
  if (fscanf(file, "%d", &left) != 1) left = 0;
  fclose(file);
  if (left <= 0) return 0;
  file = fopen(count, "w");
  fprintf(file, "%d", left - 1);
  fclose(file);
  return 1;
}

#define WRAP(function, offset)                                         \
  ssize_t function(int fd, void *to, size_t bytes, offset from) {      \
    static ssize_t (*real)(int, void *, size_t, offset);               \
    if (!real) real = dlsym(RTLD_NEXT, #function);                     \
    if (faulty(fd)) {                                                  \
      errno = EIO;                                                     \
      return -1;                                                       \
    }                                                                  \
    return real(fd, to, bytes, from);                                  \
  }
WRAP(pread, off_t)
WRAP(pread64, off64_t)
