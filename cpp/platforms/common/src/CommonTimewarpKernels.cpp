#include "CommonTimewarpKernels.h"
#include "CommonTimewarpKernelSources.h"
#include "NoiseLayout.h"
#include "RandomKey.h"
#include "openmm/common/ContextSelector.h"
#include "openmm/common/IntegrationUtilities.h"
#include "openmm/common/NonbondedUtilities.h"
#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static bool isZero(const mm_int4& cell) {
    return cell.x == 0 && cell.y == 0 && cell.z == 0;
}

static bool areEqual(const mm_int4& a, const mm_int4& b) {
    return a.x == b.x && a.y == b.y && a.z == b.z;
}

shared_ptr<SharedPrograms> SharedPrograms::of(const ComputeContext& cc) {
    static mutex lock;
    static map<const ComputeContext*, weak_ptr<SharedPrograms>> all;
    lock_guard<mutex> guard(lock);
    shared_ptr<SharedPrograms> programs = all[&cc].lock();
    if (programs == nullptr) {
        programs = make_shared<SharedPrograms>();
        all[&cc] = programs;
    }
    return programs;
}

ComputeProgram SharedPrograms::get(ComputeContext& cc, const string& source,
                                   const map<string, string>& defines) {
    ComputeProgram& program = programs[{source, defines}];
    if (program == nullptr)
        program = cc.compileProgram(source, defines);
    return program;
}

void CommonTimewarpStateKernel::initialize(const System& system, const BlockAtoms& atoms) {
    cc.initializeContexts();
    ContextSelector selector(cc);
    programs = SharedPrograms::of(cc);
    particles = atoms.particles;
    numModelAtoms = particles.size();
    mixedIsDouble = cc.getUseDoublePrecision() || cc.getUseMixedPrecision();
    vector<int> all(numModelAtoms);
    iota(all.begin(), all.end(), 0);
    for (int particle : particles)
        masses.push_back(system.getParticleMass(particle));
    initializePlaces(modelAtom, system.getNumParticles(), all, "timewarpModelAtom");
    initializePlaces(movedAtom, system.getNumParticles(), atoms.moved, "timewarpMovedAtom");
    initializePlaces(redrawnAtom, system.getNumParticles(), atoms.redrawn, "timewarpRedrawnAtom");
    initializeMixed(positions, 3 * numModelAtoms, "timewarpPositions");
    initializeMixed(proposals, 3 * numModelAtoms, "timewarpProposals");
    initializeMixed(displacements, 3 * numModelAtoms, "timewarpDisplacements");
    initializeMixed(scales, numModelAtoms, "timewarpScales");
    velocities.initialize<float>(cc, 3 * numModelAtoms, "timewarpVelocities");
    saved.initialize(cc, numModelAtoms, cc.getPosq().getElementSize(), "timewarpSaved");
    if (cc.getUseMixedPrecision())
        savedCorrection.initialize(cc, numModelAtoms, cc.getPosqCorrection().getElementSize(),
                                   "timewarpSavedCorrection");
    mismatch.initialize<int>(cc, 1, "timewarpMismatch");
    mismatch.upload(vector<int>(1, 0));
    slots.assign(numModelAtoms, 0);
    cells.assign(numModelAtoms, mm_int4(0, 0, 0, 0));
    savedCells = cellChanges = cells;
    createKernels();
}

void CommonTimewarpStateKernel::initializePlaces(ComputeArray& array, int numParticles,
                                                 const vector<int>& atoms, const char* name) {
    vector<int> places(numParticles, -1);
    for (int atom : atoms)
        places[particles[atom]] = atom;
    array.initialize<int>(cc, numParticles, name);
    array.upload(places);
}

void CommonTimewarpStateKernel::initializeMixed(ComputeArray& array, int size, const char* name) {
    array.initialize(cc, size, mixedIsDouble ? sizeof(double) : sizeof(float), name);
}

void CommonTimewarpStateKernel::createKernels() {
    map<string, string> defines;
    defines["NUM_ATOMS"] = cc.intToString(cc.getNumAtoms());
    if (cc.getUseMixedPrecision())
        defines["MIXED"] = "";
    ComputeProgram program = programs->get(cc, CommonTimewarpKernelSources::timewarpState, defines);
    int first = (cc.getUseMixedPrecision() ? 4 : 3);
    int afterSaved = first + (cc.getUseMixedPrecision() ? 2 : 1);

    gatherKernel = program->createKernel("gatherPositions");
    addStateArgs(gatherKernel, modelAtom, false);
    gatherKernel->addArg(positions);

    saveKernel = program->createKernel("savePositions");
    addStateArgs(saveKernel, modelAtom, true);

    restoreKernel = program->createKernel("restorePositions");
    addStateArgs(restoreKernel, modelAtom, true);
    restoreKernel->addArg(displacements);
    restoreKernel->addArg(0);
    restoreDisplaced = afterSaved + 1;

    compareKernel = program->createKernel("comparePositions");
    addStateArgs(compareKernel, modelAtom, true);
    compareKernel->addArg(mismatch);
    compareKernel->addArg(0);
    compareToken = afterSaved + 1;

    applyKernel = program->createKernel("applyProposal");
    addStateArgs(applyKernel, movedAtom, false);
    applyKernel->addArg(proposals);
    applyKernel->addArg(displacements);
    applyKernel->addArg(0);
    applyKernel->addArg(0);
    applyKernel->addArg(numModelAtoms);
    applyProposals = first;
    applyDisplaced = first + 2;
    applyIndex = first + 3;

    velocityKernel = program->createKernel("setVelocities");
    velocityKernel->addArg(cc.getVelm());
    velocityKernel->addArg(cc.getAtomIndexArray());
    velocityKernel->addArg(redrawnAtom);
    velocityKernel->addArg(velocities);
    velocityKernel->addArg(scales);
}

void CommonTimewarpStateKernel::createModelKernels(const ProposalInputs& inputs) {
    if (images.isInitialized())
        return;
    images.initialize<double>(cc, 3 * numModelAtoms, "timewarpImages");
    int size = (inputs.isDouble ? sizeof(double) : sizeof(float));
    modelState.initialize(cc, 3 * numModelAtoms, size, "timewarpModelState");
    modelVelocities.initialize(cc, 3 * numModelAtoms, size, "timewarpModelVelocities");
    modelNoise.initialize(cc, inputs.noiseSize, size, "timewarpModelNoise");
    map<string, string> defines;
    defines["MODEL_REAL"] = (inputs.isDouble ? "double" : "float");
    defines["FIRST_NORMAL_BLOCK"] = cc.intToString(NoiseLayout::FIRST_NORMAL_BLOCK);
    ComputeProgram program = programs->get(cc, CommonTimewarpKernelSources::timewarpModel, defines);

    normalsKernel = program->createKernel("drawNormals");
    for (int i = 0; i < 10; i++)
        normalsKernel->addArg();

    stateKernel = program->createKernel("writeState");
    stateKernel->addArg(positions);
    stateKernel->addArg(images);
    for (int i = 0; i < 4; i++)
        stateKernel->addArg();
    stateKernel->addArg(numModelAtoms);

    takeKernel = program->createKernel("takeProposals");
    for (int i = 0; i < 6; i++)
        takeKernel->addArg();
}

void CommonTimewarpStateKernel::useModelMemory(ComputeKernel kernel, int index, ComputeArray& array, int size,
                                               const ProposalInputs& inputs, void* address) {
    if (inputs.onDevice) {
        kernel->setArg(index, reinterpret_cast<uintptr_t>(address));
        return;
    }
    if (array.getSize() != static_cast<size_t>(size))
        array.resize(size);
    kernel->setArg(index, array);
}

void CommonTimewarpStateKernel::addStateArgs(ComputeKernel kernel, ComputeArray& places, bool withSaved) {
    kernel->addArg(cc.getPosq());
    if (cc.getUseMixedPrecision())
        kernel->addArg(cc.getPosqCorrection());
    kernel->addArg(cc.getAtomIndexArray());
    kernel->addArg(places);
    if (withSaved) {
        if (cc.getUseMixedPrecision())
            kernel->addArg(savedCorrection);
        kernel->addArg(saved);
    }
}

bool CommonTimewarpStateKernel::imagesMayDiffer() {
    // Otherwise OpenMM does not reorder atoms, which is when it moves molecules to other images.

    return cc.getNonbondedUtilities().getUseCutoff() && cc.getNonbondedUtilities().getUsePeriodic();
}

void CommonTimewarpStateKernel::findCells() {
    if (!imagesMayDiffer())
        return;
    const vector<int>& order = cc.getAtomIndex();
    bool slotsAreKnown = true;
    for (int i = 0; i < numModelAtoms && slotsAreKnown; i++)
        slotsAreKnown = (order[slots[i]] == particles[i]);
    if (!slotsAreKnown) {
        slotOfParticle.resize(order.size());
        for (size_t slot = 0; slot < order.size(); slot++)
            slotOfParticle[order[slot]] = slot;
        for (int i = 0; i < numModelAtoms; i++)
            slots[i] = slotOfParticle[particles[i]];
    }
    const vector<mm_int4>& all = cc.getPosCellOffsets();
    for (int i = 0; i < numModelAtoms; i++)
        cells[i] = all[slots[i]];
}

void CommonTimewarpStateKernel::uploadMixed(ComputeArray& array, const double* values, int count) {
    if (mixedIsDouble)
        array.uploadSubArray(values, 0, count);
    else {
        floats.assign(values, values + count);
        array.uploadSubArray(floats.data(), 0, count);
    }
}

void CommonTimewarpStateKernel::findDisplacements(const vector<mm_int4>& numCells) {
    Vec3 a, b, c;
    cc.getPeriodicBoxVectors(a, b, c);
    doubles.resize(3 * numModelAtoms);
    for (int i = 0; i < numModelAtoms; i++) {
        Vec3 shift = a * numCells[i].x + b * numCells[i].y + c * numCells[i].z;
        for (int j = 0; j < 3; j++)
            doubles[3 * i + j] = shift[j];
    }
}

int CommonTimewarpStateKernel::useDisplacements(const vector<mm_int4>& numCells) {
    if (all_of(numCells.begin(), numCells.end(), isZero))
        return 0;
    findDisplacements(numCells);
    if (doubles != uploadedDisplacements) {
        uploadMixed(displacements, doubles.data(), doubles.size());
        uploadedDisplacements = doubles;
    }
    return 1;
}

void CommonTimewarpStateKernel::getPositions(ContextImpl& context, vector<Vec3>& result) {
    ContextSelector selector(cc);
    gatherKernel->execute(cc.getNumAtoms());
    result.resize(numModelAtoms);
    doubles.resize(3 * numModelAtoms);
    if (mixedIsDouble)
        positions.download(doubles.data());
    else {
        floats.resize(3 * numModelAtoms);
        positions.download(floats.data());
        copy(floats.begin(), floats.end(), doubles.begin());
    }
    for (int i = 0; i < numModelAtoms; i++)
        result[i] = Vec3(doubles[3 * i], doubles[3 * i + 1], doubles[3 * i + 2]);
    if (!imagesMayDiffer())
        return;
    findCells();
    Vec3 a, b, c;
    cc.getPeriodicBoxVectors(a, b, c);
    for (int i = 0; i < numModelAtoms; i++)
        result[i] -= a * cells[i].x + b * cells[i].y + c * cells[i].z;
}

void CommonTimewarpStateKernel::savePositions(ContextImpl& context) {
    ContextSelector selector(cc);
    saveKernel->execute(cc.getNumAtoms());
    findCells();
    savedCells = cells;
    hasSaved = true;
}

void CommonTimewarpStateKernel::restorePositions(ContextImpl& context) {
    ContextSelector selector(cc);
    findCells();
    for (int i = 0; i < numModelAtoms; i++)
        cellChanges[i] = mm_int4(cells[i].x - savedCells[i].x, cells[i].y - savedCells[i].y,
                                 cells[i].z - savedCells[i].z, 0);
    restoreKernel->setArg(restoreDisplaced, useDisplacements(cellChanges));
    restoreKernel->execute(cc.getNumAtoms());
}

bool CommonTimewarpStateKernel::positionsAreSaved(ContextImpl& context) {
    if (!hasSaved)
        return false;
    findCells();
    if (!equal(cells.begin(), cells.end(), savedCells.begin(), areEqual))
        return false;

    // A new token each time spares clearing the answer.

    ContextSelector selector(cc);
    compareKernel->setArg(compareToken, ++token);
    compareKernel->execute(cc.getNumAtoms());
    int answer;
    mismatch.download(&answer);
    return answer != token;
}

void CommonTimewarpStateKernel::uploadImages() {
    findCells();
    findDisplacements(cells);
    if (doubles == uploadedImages)
        return;
    images.upload(doubles);
    uploadedImages = doubles;
}

void CommonTimewarpStateKernel::writeState(ContextImpl& context, const ProposalInputs& inputs,
                                           const Vec3& origin) {
    if (!cc.getSupportsDoublePrecision()) {
        TimewarpStateKernel::writeState(context, inputs, origin);
        return;
    }
    ContextSelector selector(cc);
    createModelKernels(inputs);
    gatherKernel->execute(cc.getNumAtoms());
    uploadImages();
    useModelMemory(stateKernel, 2, modelState, 3 * numModelAtoms, inputs, inputs.positions);
    for (int j = 0; j < 3; j++)
        stateKernel->setArg(3 + j, origin[j]);
    stateKernel->execute(numModelAtoms);
    if (!inputs.onDevice)
        modelState.download(inputs.positions);
}

void CommonTimewarpStateKernel::drawNormals(ContextImpl& context, const ProposalInputs& inputs,
                                            const RandomKey& key, int64_t firstIteration) {
    if (!cc.getSupportsDoublePrecision()) {
        TimewarpStateKernel::drawNormals(context, inputs, key, firstIteration);
        return;
    }
    ContextSelector selector(cc);
    createModelKernels(inputs);
    int numVelocities = 3 * numModelAtoms;
    useModelMemory(normalsKernel, 0, modelVelocities, inputs.capacity * numVelocities, inputs,
                   inputs.velocities);
    useModelMemory(normalsKernel, 1, modelNoise, inputs.capacity * inputs.noiseSize, inputs, inputs.noise);
    normalsKernel->setArg(2, inputs.size);
    normalsKernel->setArg(3, numVelocities);
    normalsKernel->setArg(4, inputs.noiseSize);
    for (int i = 0; i < 2; i++) {
        normalsKernel->setArg(5 + i, static_cast<uint32_t>(key.getKey() >> (32 * i)));
        normalsKernel->setArg(8 + i, static_cast<uint32_t>(firstIteration >> (32 * i)));
    }
    normalsKernel->setArg(7, key.getStream());
    normalsKernel->execute(
            inputs.size * (NoiseLayout::numBlocks(numVelocities) + NoiseLayout::numBlocks(inputs.noiseSize)));
    if (inputs.onDevice)
        return;
    modelVelocities.download(inputs.velocities);
    modelNoise.download(inputs.noise);
}

void CommonTimewarpStateKernel::reserveProposals(int size) {
    size_t needed = static_cast<size_t>(size) * 3 * numModelAtoms;
    if (needed <= proposals.getSize())
        return;
    proposals.resize(needed);
    applyKernel->setArg(applyProposals, proposals);
}

void CommonTimewarpStateKernel::setProposals(ContextImpl& context, const vector<double>& relative,
                                             const Vec3& origin) {
    ContextSelector selector(cc);
    reserveProposals(relative.size() / (3 * numModelAtoms));

    // Added in double precision whatever the device's, and then rounded once.

    doubles.resize(relative.size());
    for (size_t i = 0; i < relative.size(); i++)
        doubles[i] = origin[i % 3] + relative[i];
    uploadMixed(proposals, doubles.data(), doubles.size());
}

void CommonTimewarpStateKernel::setDeviceProposals(ContextImpl& context, const void* source, int size,
                                                   const Vec3& origin) {
    ContextSelector selector(cc);
    reserveProposals(size);
    takeKernel->setArg(0, reinterpret_cast<uintptr_t>(source));
    takeKernel->setArg(1, proposals);
    for (int j = 0; j < 3; j++)
        takeKernel->setArg(2 + j, origin[j]);
    takeKernel->setArg(5, size * numModelAtoms);
    takeKernel->execute(size * numModelAtoms);
}

void CommonTimewarpStateKernel::applyProposal(ContextImpl& context, int proposal) {
    ContextSelector selector(cc);
    findCells();
    applyKernel->setArg(applyDisplaced, useDisplacements(cells));
    applyKernel->setArg(applyIndex, proposal);
    applyKernel->execute(cc.getNumAtoms());
}

void CommonTimewarpStateKernel::reorderAtoms(ContextImpl& context) {
    ContextSelector selector(cc);
    cc.reorderAtoms();
}

void CommonTimewarpStateKernel::setVelocities(ContextImpl& context, const float* values, double kT) {
    ContextSelector selector(cc);
    if (kT != scalesKT) {
        doubles.resize(numModelAtoms);
        for (int i = 0; i < numModelAtoms; i++)
            doubles[i] = sqrt(kT / masses[i]);
        uploadMixed(scales, doubles.data(), numModelAtoms);
        scalesKT = kT;
    }
    velocities.uploadSubArray(values, 0, 3 * numModelAtoms);
    velocityKernel->execute(cc.getNumAtoms());
}

double CommonTimewarpStateKernel::computeKineticEnergy(ContextImpl& context) {
    return cc.getIntegrationUtilities().computeKineticEnergy(0.0);
}
