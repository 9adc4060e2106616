#ifndef TIMEWARP_TEST_UTILITIES_H_
#define TIMEWARP_TEST_UTILITIES_H_

#include "OpenMM.h"
#include "TimewarpMCMCIntegrator.h"
#include "openmm/internal/AssertionUtilities.h"
#include "openmm/reference/SimTKOpenMMRealType.h"
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

using namespace OpenMM;
using TimewarpPlugin::TimewarpMCMCIntegrator;

const double TEMPERATURE = 300.0;
const double KT = BOLTZ * TEMPERATURE;

inline std::string modelPath(const std::string& name, int numParticles) {
    return std::string(TIMEWARP_MODELS) + "/" + name + "_" + std::to_string(numParticles) + ".pt";
}

inline std::string readFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
}

/**
 * Get the content of one of the surrogates.
 */
inline std::string surrogateContent(const std::string& name) {
    return readFile(std::string(TIMEWARP_MODELS) + "/surrogate_" + name + ".pt");
}

/**
 * Assert that some code throws an OpenMMException whose message holds a text.
 */
inline void assertThrows(const std::function<void()>& code, const std::string& text) {
    try {
        code();
    }
    catch (const OpenMMException& error) {
        if (std::string(error.what()).find(text) == std::string::npos)
            throw OpenMMException("expected '" + text + "' in the message: " + error.what());
        return;
    }
    throw OpenMMException("expected an exception with '" + text + "'");
}

/**
 * Assert that two samples are of one distribution (Kolmogorov-Smirnov), with a false-alarm rate of 1e-5.
 */
inline void assertSameDistribution(std::vector<double> a, std::vector<double> b) {
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    double distance = 0;
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        double value = std::min(a[i], b[j]);
        while (i < a.size() && a[i] <= value)
            i++;
        while (j < b.size() && b[j] <= value)
            j++;
        distance = std::max(distance, std::fabs(i / (double)a.size() - j / (double)b.size()));
    }
    double critical = std::sqrt(-0.5 * std::log(1e-5 / 2)) * std::sqrt(1.0 / a.size() + 1.0 / b.size());
    if (distance > critical)
        throw OpenMMException("distributions differ: Kolmogorov-Smirnov distance " +
                              std::to_string(distance) + " exceeds " + std::to_string(critical));
}

/**
 * Whether a platform is one of OpenMM's common compute framework, with precisions to choose from.  A step
 * costs many launches there, and a Context a tenth of a second, so that what tests hold of it is chosen:
 *
 * - What reads and writes the device's state (positions, velocities, checkpoints, agreement with Reference)
 * is tested in each precision.
 * - What is the same code on the host in each (distributions, bookkeeping, refusals) is tested in one; see
 *   standsForAllPrecisions().
 * - A distribution is compared for some of the Systems and with one batch size, since it is tested of each
 *   chain that it does not depend on that, and that it takes the decisions that Reference takes.
 * - That a test sees a planted fault depends on its numbers of samples, which are the same on all platforms,
 *   so it is shown on Reference.
 */
inline bool isDevice(const Platform& platform) {
    const std::vector<std::string>& names = platform.getPropertyNames();
    return std::find(names.begin(), names.end(), "Precision") != names.end();
}

/**
 * Get the precision that Contexts of a platform have by default: "single", "mixed" or "double".
 */
inline std::string precisionOf(const Platform& platform) {
    return isDevice(platform) ? platform.getPropertyDefaultValue("Precision") : "double";
}

/**
 * Whether to run the tests for which one precision is enough: mixed, in which positions come in two parts.
 */
inline bool standsForAllPrecisions(const Platform& platform) {
    return !isDevice(platform) || precisionOf(platform) == "mixed";
}

/**
 * Get the batch sizes with which distributions are compared.
 */
inline std::vector<int> batchSizesOn(const Platform& platform, int large = 64) {
    return isDevice(platform) ? std::vector<int>{large} : std::vector<int>{1, large};
}

/**
 * Get the tolerance for results that a platform computes in double precision, or else in single.
 */
inline double toleranceOn(const Platform& platform, double inDouble, double inSingle) {
    return precisionOf(platform) == "double" ? inDouble : inSingle;
}

/**
 * Put the origin that the model is shown at zero: it is the centroid of a chain's first state.
 */
inline void startAtZero(Context& context) {
    context.setPositions(std::vector<Vec3>(context.getSystem().getNumParticles()));
    context.getIntegrator().step(1);
}

/**
 * Get the largest difference between two sets of positions in any coordinate.
 */
inline double maxDifference(const std::vector<Vec3>& a, const std::vector<Vec3>& b) {
    double difference = 0;
    for (size_t i = 0; i < a.size(); i++)
        for (int j = 0; j < 3; j++)
            difference = std::max(difference, std::fabs(a[i][j] - b[i][j]));
    return difference;
}

#endif /*TIMEWARP_TEST_UTILITIES_H_*/
