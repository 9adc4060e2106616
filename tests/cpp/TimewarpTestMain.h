/*
 * Loads the platform under test and runs what runPlatformTests() of the including file runs.
 */
#include "TimewarpTestUtilities.h"

void runPlatformTests(Platform& platform);

int runOnPlatform(const std::string& name) {
    try {
        // The plugin adds its kernels to the platforms that are there when it is loaded.

        if (name != "Reference")
            Platform::loadPluginLibrary(TIMEWARP_OPENMM_PLUGINS "/libOpenMM" + name + ".so");
        Platform::loadPluginLibrary(TIMEWARP_PLATFORM_LIBRARY);
        runPlatformTests(Platform::getPlatformByName(name));
    }
    catch (const std::exception& error) {
        std::cout << "exception: " << error.what() << std::endl;
        return 1;
    }
    std::cout << "Done" << std::endl;
    return 0;
}
