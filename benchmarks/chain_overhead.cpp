/*
 * How much time the chain itself takes: iterations per second with a flow that costs nothing (identity),
 * against bare energy evaluations of the same System, both in C++ on the Reference platform and in turns.
 *
 * chain_overhead SYSTEM.xml MODEL.pt PLATFORM_LIBRARY; chain_overhead.py makes the files and calls it.
 */
#include "OpenMM.h"
#include "TimewarpMCMCIntegrator.h"
#include "openmm/serialization/XmlSerializer.h"
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <vector>

using namespace OpenMM;
using namespace std;
using TimewarpPlugin::TimewarpMCMCIntegrator;

static vector<Vec3> readPositions(istream& stream) {
    vector<Vec3> positions;
    Vec3 p;
    while (stream >> p[0] >> p[1] >> p[2])
        positions.push_back(p);
    return positions;
}

template <typename Work> double perSecond(int count, Work work) {
    auto began = chrono::steady_clock::now();
    work(count);
    return count / chrono::duration<double>(chrono::steady_clock::now() - began).count();
}

int main(int argc, char* argv[]) {
    if (argc != 5) {
        cerr << "usage: chain_overhead SYSTEM.xml POSITIONS.txt MODEL.pt PLATFORM_LIBRARY" << endl;
        return 2;
    }
    Platform::loadPluginLibrary(argv[4]);
    Platform& platform = Platform::getPlatformByName("Reference");
    ifstream systemFile(argv[1]), positionFile(argv[2]);
    unique_ptr<System> system(XmlSerializer::deserialize<System>(systemFile));
    vector<Vec3> positions = readPositions(positionFile);
    TimewarpMCMCIntegrator timewarp(argv[3]);
    timewarp.setBatchSize(64);
    VerletIntegrator verlet(0.001);
    Context chain(*system, timewarp, platform), bare(*system, verlet, platform);
    chain.setPositions(positions);
    bare.setPositions(positions);

    vector<double> ratios, chainRates, energyRates;
    for (int i = 0; i < 11; i++) {
        double energies = perSecond(10000, [&](int count) {
            for (int k = 0; k < count; k++)
                bare.getState(State::Energy).getPotentialEnergy();
        });
        double iterations = perSecond(10000, [&](int count) { timewarp.step(count); });
        chainRates.push_back(iterations);
        energyRates.push_back(energies);
        ratios.push_back(iterations / energies);
    }
    for (auto* values : {&chainRates, &energyRates, &ratios})
        sort(values->begin(), values->end());
    cout << "accepted " << timewarp.getAcceptanceRate() << endl;
    cout << "bare energies per second:    " << energyRates[5] << endl;
    cout << "chain iterations per second: " << chainRates[5] << endl;
    cout << "ratio, median of 11 pairs:   " << ratios[5] << " (" << ratios.front() << " to " << ratios.back()
         << ")" << endl;
    return 0;
}
