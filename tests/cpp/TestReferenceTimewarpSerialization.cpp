#include "TestTimewarpSerialization.h"
#include "TimewarpTestMain.h"

void runPlatformTests(Platform& platform) {
    testDigestsAndBase64();
    testSettingsAreSerialized();
    testChangedModel();
    testEmbeddedModelRuns(platform);
}

int main() {
    return runOnPlatform("Reference");
}
