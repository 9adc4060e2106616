#include "TestTimewarpSurrogate.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    runSurrogateTests(platform);
}

int main(int argc, char* argv[]) {
    // In all precisions with `make test-long`.

    return runOnPlatform("OpenCL", argumentsOr({"mixed"}, argc, argv));
}
