/*
 * How much time the chain itself takes: everything but the flow and the energy.  Iterations with a flow that
 * costs next to nothing (identity) against bare energy evaluations of the same System; and iterations with a
 * real flow, which say what a whole step takes.  All in C++ on one platform, and in turns.
 *
 * chain_overhead.py makes the files and calls it.
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

/**
 * Microseconds for each of some repetitions.
 */
template <typename Work> double microseconds(int count, Work work) {
    auto began = chrono::steady_clock::now();
    work(count);
    return 1e6 * chrono::duration<double>(chrono::steady_clock::now() - began).count() / count;
}

// Many short turns: on a busy machine single ones are far off.
static const int NUM_TURNS = 41;

static double quantile(vector<double> values, double part) {
    sort(values.begin(), values.end());
    return values[part * (values.size() - 1)];
}

static double median(const vector<double>& values) {
    return quantile(values, 0.5);
}

int main(int argc, char* argv[]) {
    if (argc < 9) {
        cerr << "usage: chain_overhead SYSTEM.xml POSITIONS.txt IDENTITY.pt FLOW.pt ITERATIONS PLATFORM "
                "PRECISION "
                "LIBRARY..."
             << endl;
        return 2;
    }
    int iterations = stoi(argv[5]);
    string name = argv[6], precision = argv[7];
    for (int i = 8; i < argc; i++)
        Platform::loadPluginLibrary(argv[i]);
    Platform& platform = Platform::getPlatformByName(name);
    if (precision != "-")
        platform.setPropertyDefaultValue("Precision", precision);
    ifstream systemFile(argv[1]), positionFile(argv[2]);
    unique_ptr<System> system(XmlSerializer::deserialize<System>(systemFile));
    vector<Vec3> positions = readPositions(positionFile);
    TimewarpMCMCIntegrator identity(argv[3]), flow(argv[4]);
    identity.setBatchSize(64);
    flow.setBatchSize(64);
    flow.setRandomNumberSeed(1);
    VerletIntegrator verlet(0.001);
    Context chain(*system, identity, platform), real(*system, flow, platform),
            bare(*system, verlet, platform);
    for (Context* context : {&chain, &real, &bare})
        context->setPositions(positions);
    identity.step(128);
    flow.step(128);

    vector<double> energyTimes, chainTimes, flowTimes, overheads, shares;
    for (int i = 0; i < NUM_TURNS; i++) {
        energyTimes.push_back(microseconds(iterations, [&](int count) {
            for (int k = 0; k < count; k++)
                bare.getState(State::Energy).getPotentialEnergy();
        }));
        chainTimes.push_back(microseconds(iterations, [&](int count) { identity.step(count); }));
        flowTimes.push_back(microseconds(iterations, [&](int count) { flow.step(count); }));
        overheads.push_back(chainTimes.back() - energyTimes.back());
        shares.push_back(overheads.back() / flowTimes.back());
    }
    cout << name << " " << precision << endl;
    cout << "accepted, identity and flow: " << identity.getAcceptanceRate() << ", "
         << flow.getAcceptanceRate() << endl;
    cout << "bare energy / us:            " << median(energyTimes) << endl;
    cout << "iteration, identity / us:    " << median(chainTimes) << endl;
    cout << "iteration, flow / us:        " << median(flowTimes) << endl;
    cout << "energy rate kept, identity:  " << median(energyTimes) / median(chainTimes) << endl;
    cout << "chain overhead / us:         " << median(overheads) << endl;
    cout << "... as a share of the step:  " << median(shares) << " (median of " << NUM_TURNS
         << "; half of them between " << quantile(shares, 0.25) << " and " << quantile(shares, 0.75) << ")"
         << endl;
    return 0;
}
