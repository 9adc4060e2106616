#include "TestTimewarpBarostat.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testBarostat(platform);
    testBarostatCanFail(platform);
    testPeriodicImages(platform);
    testModelMustBeInvariantToTranslation(platform);
}

int main(int argc, char* argv[]) {
    // In all precisions with `make test-long`.

    return runOnPlatform("OpenCL", argumentsOr({"single"}, argc, argv));
}
