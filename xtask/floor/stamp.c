// Prints CLOCK_MONOTONIC in nanoseconds as the first thing that it does: when its exec had happened. No C library: its start-up
// would count. The clock is the same in all containers that have no time namespace.
static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

enum { SYS_WRITE = 1, SYS_EXIT = 60, SYS_CLOCK_GETTIME = 228, MONOTONIC = 1 };

void _start(void) {
  long time[2];
  call(SYS_CLOCK_GETTIME, MONOTONIC, (long)time, 0);
  unsigned long left = time[0] * 1000000000ul + time[1];
  char text[24], *at = text + sizeof text;
  *--at = '\n';
  do *--at = '0' + left % 10; while (left /= 10);
  call(SYS_WRITE, 1, (long)at, text + sizeof text - at);
  call(SYS_EXIT, 0, 0, 0);
}
