/*
 * Makes the wall clock of a program wrong by CHAOS_CLOCK_MS milliseconds:
 * preloaded, it stands before the C library's functions of the same names.
 * The monotonic clock stays right.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long long off_ns(void) {
	static int known;
	static long long off;
	if (!known) {
		const char *ms = getenv("CHAOS_CLOCK_MS");
		off = ms ? atoll(ms) * 1000000LL : 0;
		known = 1;
	}
	return off;
}

static int real(clockid_t id, struct timespec *t) {
	static int (*next)(clockid_t, struct timespec *);
	if (!next)
		next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	return next(id, t);
}

int clock_gettime(clockid_t id, struct timespec *t) {
	int err = real(id, t);
	if (err == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		long long ns = (long long)t->tv_sec * 1000000000LL + t->tv_nsec + off_ns();
		t->tv_sec = ns / 1000000000LL;
		t->tv_nsec = ns % 1000000000LL;
	}
	return err;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
	struct timespec now;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t) {
	struct timespec now;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	if (t)
		*t = now.tv_sec;
	return now.tv_sec;
}
