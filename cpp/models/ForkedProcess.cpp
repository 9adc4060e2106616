#include "ForkedProcess.h"
#ifndef _WIN32
#include <ATen/Parallel.h>
#include <pthread.h>
#include <unistd.h>

/*
 * A process that was forked after torch had used several threads has none of them, and torch would wait for
 * them for ever (so does GNU's OpenMP below it).  With one thread it needs none.  torch's own DataLoader sets
 * its workers the same way.
 */
static void useOneThread() {
    at::set_num_threads(1);
}

/** When the library is loaded, so that it holds whatever the parent has done by the time it forks. */
static const bool registered = (pthread_atfork(nullptr, nullptr, useOneThread) == 0);

static int currentProcess() {
    return getpid();
}
#else
// There is no fork.
static int currentProcess() {
    return 0;
}
#endif

using namespace TimewarpPlugin;

ProcessOfOrigin::ProcessOfOrigin() : process(currentProcess()) {
}

bool ProcessOfOrigin::isLeft() const {
    return process != currentProcess();
}
