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
 * Get the precision that Contexts of a platform have by default: "single", "mixed" or "double".
 */
inline std::string precisionOf(const Platform& platform) {
    const std::vector<std::string>& names = platform.getPropertyNames();
    bool hasPrecision = std::find(names.begin(), names.end(), "Precision") != names.end();
    return hasPrecision ? platform.getPropertyDefaultValue("Precision") : "double";
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
