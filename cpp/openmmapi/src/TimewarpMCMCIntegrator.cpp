#include "TimewarpMCMCIntegrator.h"
#include "Chain.h"
#include "DelayedAcceptance.h"
#include "FlowMove.h"
#include "ForkedProcess.h"
#include "Interruption.h"
#include "LocalScreening.h"
#include "ProposalModel.h"
#include "ReplicaNumbers.h"
#include "Sha256.h"
#include "SurrogateEnergy.h"
#include "SystemTerms.h"
#include "TimewarpKernels.h"
#include "TrustedFiles.h"
#include "WithRigidMoves.h"
#include "internal/BlockErrors.h"
#include "openmm/CompoundIntegrator.h"
#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ForceImpl.h"
#include "openmm/internal/OSRngSeed.h"
#include "openmm/kernels.h"
#include "openmm/serialization/SerializationNode.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <set>
#include <sstream>
#include <typeinfo>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static atomic<bool (*)()> interruptionCheck(NULL);
// A move's place among those of its chain is a number of 16 bits in its random numbers; the upper half is for
// rigid moves, and for the Schedule.
static const size_t MAX_BLOCKS = RigidMove::NUMBER - 1;
static const double PI = 3.14159265358979323846;

/**
 * The nominal lag time: the mean of the finite ones, or 1 ps where all draws are independent, so that
 * reporters have an axis.
 */
static double nominalLag(const ModelMetadata& metadata) {
    double sum = 0, weight = 0;
    for (size_t i = 0; i < metadata.lagTimes.size(); i++)
        if (isfinite(metadata.lagTimes[i])) {
            sum += metadata.lagWeights[i] * metadata.lagTimes[i];
            weight += metadata.lagWeights[i];
        }
    return weight > 0 ? sum / weight : 1.0;
}

/**
 * What tells one System from another in a checkpoint: masses, constraints, kinds of forces, and whether it is
 * periodic.
 */
static string digestOfSystem(const System& system) {
    stringstream text;
    text << setprecision(17);
    for (int i = 0; i < system.getNumParticles(); i++)
        text << system.getParticleMass(i) << (system.isVirtualSite(i) ? " site " : " ");
    text << "constraints " << system.getNumConstraints();
    for (int i = 0; i < system.getNumForces(); i++)
        text << " " << typeid(system.getForce(i)).name();
    text << (system.usesPeriodicBoundaryConditions() ? " periodic" : "");
    return sha256(text.str());
}

/**
 * Get the integrators of a Context, those in CompoundIntegrators one by one.
 */
static void collectIntegrators(Integrator& integrator, vector<Integrator*>& found) {
    auto* compound = dynamic_cast<CompoundIntegrator*>(&integrator);
    if (compound == NULL) {
        found.push_back(&integrator);
        return;
    }
    for (int i = 0; i < compound->getNumIntegrators(); i++)
        collectIntegrators(compound->getIntegrator(i), found);
}

static vector<Integrator*> integratorsOf(ContextImpl& context) {
    vector<Integrator*> found;
    collectIntegrators(context.getIntegrator(), found);
    return found;
}

/**
 * A part of the System and its model, and what belongs to it in the Context that the integrator is bound to.
 */
struct TimewarpMCMCIntegrator::Block {
    string modelPath;
    shared_ptr<ProposalModel> model;
    /** Empty if atom i is particle i. */
    vector<int> particles;
    double weight = 1.0;

    /** The particles, and those of them that are moved. */
    vector<int> allParticles, moved;
    Kernel kernel;
    /** The chain's, NULL without a Context. */
    FlowMove* flow = nullptr;
    /** The moves around it, NULL where there are none. */
    DelayedAcceptance* delayed = nullptr;
    WithRigidMoves* rigid = nullptr;
    /** Of the last chain, after its Context is gone. */
    MoveCounters counters, rigidCounters;
};

/** Get those of some atoms; particles that are not there, which others complain of, are left out. */
static vector<int> chosen(const vector<int>& particles, const vector<int>& atoms) {
    vector<int> result;
    for (int atom : atoms)
        if (atom < (int)particles.size())
            result.push_back(particles[atom]);
    return result;
}

/**
 * Throw an exception if particles cannot be those of a model's atoms in any System.
 */
static void checkParticlesOf(const ModelMetadata& metadata, const vector<int>& particles) {
    if (!metadata.anyMolecule && particles.size() != metadata.masses.size())
        throw OpenMMException(
                "the model has " + to_string(metadata.masses.size()) + " atoms, but " +
                to_string(particles.size()) +
                " particles are given; give the particle of each of its atoms, context atoms too");
    set<int> seen;
    for (int particle : particles) {
        if (particle < 0)
            throw OpenMMException("there is no particle " + to_string(particle) +
                                  "; particles are numbered from 0 on");
        if (!seen.insert(particle).second)
            throw OpenMMException("particle " + to_string(particle) +
                                  " is given twice; give another particle for each of the model's atoms");
    }
}

static vector<int> joined(const vector<int>& first, const vector<int>& second) {
    set<int> all(first.begin(), first.end());
    all.insert(second.begin(), second.end());
    return vector<int>(all.begin(), all.end());
}

/**
 * Get whether a System has mass that is not among some particles.
 */
static bool hasOthers(const System& system, const vector<int>& particles) {
    set<int> own(particles.begin(), particles.end());
    for (int i = 0; i < system.getNumParticles(); i++)
        if (own.count(i) == 0 && system.getParticleMass(i) != 0)
            return true;
    return false;
}

/**
 * Get which of a model's stretches are kept.  Throws an exception if a constrained bond is none of them.
 */
static vector<int> findKeptStretches(const ConstraintMetric& metric, const ModelMetadata& metadata,
                                     const vector<int>& particles) {
    vector<int> kept;
    for (auto& bond : metric.getBonds()) {
        auto stretch = find(metadata.stretches.begin(), metadata.stretches.end(), bond);
        if (stretch != metadata.stretches.end()) {
            kept.push_back(stretch - metadata.stretches.begin());
            continue;
        }
        const string which = "the distance between particles " + to_string(particles[bond.first]) + " and " +
                             to_string(particles[bond.second]) + " is constrained";
        if (metadata.namesStretches)
            throw OpenMMException(
                    "Timewarp: " + which + ", but the model " + metadata.origin +
                    " cannot keep the length of that bond; build the System with constraints=None");
        throw OpenMMException("Timewarp: " + which + ", but the model " + metadata.origin +
                              " was made before models could keep lengths of bonds; fit it again with this "
                              "version, or build the System with constraints=None");
    }
    sort(kept.begin(), kept.end());
    return kept;
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath)
        : TimewarpMCMCIntegrator(modelPath, make_shared<ProposalModel>(modelPath), false) {
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath, const string& modelContent)
        : TimewarpMCMCIntegrator(modelPath, make_shared<ProposalModel>(modelPath, modelContent), true) {
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath, shared_ptr<ProposalModel> model,
                                               bool embed)
        : topologySize(0), hasModel(true) {
    addBlock(modelPath, model, {}, 1.0);
    setDefaults();
    setEmbedModel(embed);
    setTemperature(model->getMetadata().temperature);
    setLagWeights(model->getMetadata().lagWeights);
    setStepSize(nominalLag(model->getMetadata()));
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(double temperature) : topologySize(0), hasModel(false) {
    setDefaults();
    setTemperature(temperature);
    setStepSize(1.0);
}

void TimewarpMCMCIntegrator::setDefaults() {
    setEmbedModel(false);
    setConstraintTolerance(1e-5);
    setBatchSize(0);
    setRandomNumberSeed(0);
    setSubchainLength(1);
    setUseCudaGraphs(false);
    setProposalsPerStep(1);
    setBlocksPerTry(1);
    setFrozenOthers(false);
    setScreening(true);
    setDynamics(0, 0.002, 1.0);
    setRigidMoves(0.2, PI);
}

TimewarpMCMCIntegrator::~TimewarpMCMCIntegrator() {
}

void TimewarpMCMCIntegrator::requireNoContext(const char* method) const {
    if (context != NULL)
        throw OpenMMException(string(method) +
                              "() cannot be called after the Integrator is bound to a context");
}

/*
 * Blocks.
 */

shared_ptr<ProposalModel> TimewarpMCMCIntegrator::modelOf(const string& path, const string& content) const {
    const string digest = sha256(content);
    for (auto& other : blocks)
        if (other->model->getSha256() == digest)
            return other->model;
    return make_shared<ProposalModel>(path, content);
}

int TimewarpMCMCIntegrator::addBlock(const string& modelPath, const vector<int>& particles, double weight) {
    return addBlock(modelPath, modelOf(modelPath, ProposalModel::readFile(modelPath)), particles, weight);
}

int TimewarpMCMCIntegrator::addBlock(const string& modelPath, const string& modelContent,
                                     const vector<int>& particles, double weight) {
    return addBlock(modelPath, modelOf(modelPath, modelContent), particles, weight);
}

int TimewarpMCMCIntegrator::addBlock(const string& path, shared_ptr<ProposalModel> model,
                                     const vector<int>& particles, double weight) {
    requireNoContext("addBlock");
    if (!(isfinite(weight) && weight >= 0))
        throw OpenMMException("The weight of a block must not be negative, nor NaN or infinite");
    if (blocks.size() >= MAX_BLOCKS)
        throw OpenMMException("There can be at most " + to_string(MAX_BLOCKS) + " blocks");
    if (!particles.empty())
        namingBlock(blocks.size(), path, [&] { checkParticlesOf(model->getMetadata(), particles); });
    auto added = make_unique<Block>();
    added->modelPath = path;
    added->model = model;
    added->particles = particles;
    added->weight = weight;
    blocks.push_back(std::move(added));
    return blocks.size() - 1;
}

bool TimewarpMCMCIntegrator::getHasModel() const {
    return hasModel;
}

void TimewarpMCMCIntegrator::requireModel(const char* method) const {
    if (!hasModel)
        throw OpenMMException(string(method) +
                              "() is about the model that an Integrator is created with, and this one was "
                              "created without; its blocks pick lag times by the weights of their models");
}

int TimewarpMCMCIntegrator::getNumBlocks() const {
    return blocks.size();
}

const TimewarpMCMCIntegrator::Block& TimewarpMCMCIntegrator::block(int index) const {
    if (index < 0 || index >= getNumBlocks())
        throw OpenMMException("There is no block " + to_string(index) + ": the Integrator has " +
                              to_string(getNumBlocks()));
    return *blocks[index];
}

const TimewarpMCMCIntegrator::Block& TimewarpMCMCIntegrator::firstBlock() const {
    if (blocks.empty())
        throw OpenMMException("The Integrator has no model; add one with addBlock()");
    return *blocks[0];
}

const string& TimewarpMCMCIntegrator::getBlockModelPath(int index) const {
    return block(index).modelPath;
}

const string& TimewarpMCMCIntegrator::getBlockModelContent(int index) const {
    return block(index).model->getContent();
}

const string& TimewarpMCMCIntegrator::getBlockModelSha256(int index) const {
    return block(index).model->getSha256();
}

const vector<int>& TimewarpMCMCIntegrator::getBlockParticles(int index) const {
    return block(index).particles;
}

double TimewarpMCMCIntegrator::getBlockWeight(int index) const {
    return block(index).weight;
}

MoveCounters TimewarpMCMCIntegrator::countersOf(int index) const {
    const Block& of = block(index);
    return of.flow == nullptr ? of.counters : of.flow->getCounters();
}

MoveCounters TimewarpMCMCIntegrator::rigidCountersOf(int index) const {
    const Block& of = block(index);
    return of.rigid == nullptr ? of.rigidCounters : of.rigid->getRigidCounters();
}

long long TimewarpMCMCIntegrator::getBlockNumTried(int index) const {
    return countersOf(index).numTried;
}

long long TimewarpMCMCIntegrator::getBlockNumAccepted(int index) const {
    return countersOf(index).numAccepted;
}

long long TimewarpMCMCIntegrator::getBlockNumScreened(int index) const {
    return countersOf(index).numScreened;
}

long long TimewarpMCMCIntegrator::getBlockNumNonFinite(int index) const {
    return countersOf(index).numNonFinite;
}

long long TimewarpMCMCIntegrator::getBlockNumRigidTried(int index) const {
    return rigidCountersOf(index).numTried;
}

long long TimewarpMCMCIntegrator::getBlockNumRigidAccepted(int index) const {
    return rigidCountersOf(index).numAccepted;
}

void TimewarpMCMCIntegrator::setRigidMoves(double maxTranslation, double maxRotation) {
    requireNoContext("setRigidMoves");
    if (!(isfinite(maxTranslation) && maxTranslation >= 0))
        throw OpenMMException("The largest displacement of rigid moves must not be negative, nor NaN or "
                              "infinite");
    // An angle in single precision, or a decimal one, may be a little more than pi.
    if (!(maxRotation >= 0 && maxRotation <= PI + 1e-6))
        throw OpenMMException("The largest turn of rigid moves must be between 0 and pi (in radians)");
    rigidTranslation = maxTranslation;
    rigidRotation = min(maxRotation, PI);
}

double TimewarpMCMCIntegrator::getRigidTranslation() const {
    return rigidTranslation;
}

double TimewarpMCMCIntegrator::getRigidRotation() const {
    return rigidRotation;
}

void TimewarpMCMCIntegrator::setDynamics(int steps, double stepSize, double frictionCoeff) {
    requireNoContext("setDynamics");
    if (steps < 0)
        throw OpenMMException("The number of dynamics steps must not be negative");
    if (!(isfinite(stepSize) && stepSize > 0))
        throw OpenMMException("The step size of the dynamics must be positive");
    if (!(isfinite(frictionCoeff) && frictionCoeff >= 0))
        throw OpenMMException("The friction coefficient must not be negative");
    dynamicsSteps = steps;
    dynamicsStepSize = stepSize;
    dynamicsFriction = frictionCoeff;
}

int TimewarpMCMCIntegrator::getDynamicsSteps() const {
    return dynamicsSteps;
}

double TimewarpMCMCIntegrator::getDynamicsStepSize() const {
    return dynamicsStepSize;
}

double TimewarpMCMCIntegrator::getDynamicsFriction() const {
    return dynamicsFriction;
}

int TimewarpMCMCIntegrator::getProposalsPerStep() const {
    return proposalsPerStep;
}

void TimewarpMCMCIntegrator::setProposalsPerStep(int proposals) {
    if (proposals < 0)
        throw OpenMMException("The number of proposals in a step must not be negative");
    if (chain != nullptr)
        checkStepsDoSomething(proposals);
    proposalsPerStep = proposals;
}

int TimewarpMCMCIntegrator::getBlocksPerTry() const {
    return blocksPerTry;
}

void TimewarpMCMCIntegrator::setBlocksPerTry(int number) {
    if (number < 1)
        throw OpenMMException("The number of blocks in a try must be positive");
    blocksPerTry = number;
}

bool TimewarpMCMCIntegrator::getFrozenOthers() const {
    return frozenOthers;
}

void TimewarpMCMCIntegrator::setFrozenOthers(bool frozen) {
    requireNoContext("setFrozenOthers");
    frozenOthers = frozen;
}

bool TimewarpMCMCIntegrator::getScreening() const {
    return screening;
}

void TimewarpMCMCIntegrator::setScreening(bool use) {
    requireNoContext("setScreening");
    screening = use;
}

/*
 * The first block.
 */

const string& TimewarpMCMCIntegrator::getModelPath() const {
    return firstBlock().modelPath;
}

const string& TimewarpMCMCIntegrator::getModelContent() const {
    return firstBlock().model->getContent();
}

const string& TimewarpMCMCIntegrator::getModelSha256() const {
    return firstBlock().model->getSha256();
}

string TimewarpMCMCIntegrator::getModelDevice() const {
    return firstBlock().model->getDevice();
}

bool TimewarpMCMCIntegrator::getEmbedModel() const {
    return embedModel;
}

void TimewarpMCMCIntegrator::setEmbedModel(bool embed) {
    embedModel = embed;
}

bool TimewarpMCMCIntegrator::getUseCudaGraphs() const {
    return useCudaGraphs;
}

void TimewarpMCMCIntegrator::setUseCudaGraphs(bool use) {
    requireNoContext("setUseCudaGraphs");
    useCudaGraphs = use;
}

double TimewarpMCMCIntegrator::getTemperature() const {
    return temperature;
}

void TimewarpMCMCIntegrator::setTemperature(double temp) {
    if (!(isfinite(temp) && temp > 0))
        throw OpenMMException("Temperature must be positive");
    temperature = temp;
}

const vector<double>& TimewarpMCMCIntegrator::getLagTimes() const {
    requireModel("getLagTimes");
    return firstBlock().model->getMetadata().lagTimes;
}

const vector<double>& TimewarpMCMCIntegrator::getLagWeights() const {
    requireModel("getLagWeights");
    return lagWeights;
}

void TimewarpMCMCIntegrator::setLagWeights(const vector<double>& weights) {
    requireModel("setLagWeights");
    size_t numLags = getLagTimes().size();
    if (weights.size() != numLags)
        throw OpenMMException("Lag weights must be " + to_string(numLags) +
                              " numbers, one for each lag time of the model, but there are " +
                              to_string(weights.size()));
    if (!all_of(weights.begin(), weights.end(), [](double w) { return isfinite(w) && w >= 0; }))
        throw OpenMMException("Lag weights must not be negative, nor NaN or infinite");
    if (!any_of(weights.begin(), weights.end(), [](double w) { return w > 0; }))
        throw OpenMMException("At least one of the lag weights must be positive");
    lagWeights = weights;
    if (chain != nullptr)
        blocks[0]->flow->setLagWeights(weights);
}

const vector<double>& TimewarpMCMCIntegrator::getLatentCorrelations() const {
    return latentCorrelations;
}

const vector<double>& TimewarpMCMCIntegrator::getLatentCorrelationWeights() const {
    return latentWeights;
}

const vector<double>& TimewarpMCMCIntegrator::getLatentShares() const {
    return latentShares;
}

const vector<int>& TimewarpMCMCIntegrator::getLatentTorsions() const {
    return latentTorsions;
}

static void checkTorsionSteps(const vector<int>& torsions, const vector<double>& shares) {
    for (size_t i = 0; i < torsions.size(); i++) {
        if (torsions[i] < 0)
            throw OpenMMException("The number of torsions that are drawn must not be negative");
        if (torsions[i] > 0 && !shares.empty() && shares[i] != 1)
            throw OpenMMException("A latent step draws either torsions or a share of all variables; set its "
                                  "share to 1 or its torsions to 0");
    }
}

void TimewarpMCMCIntegrator::setLatentCorrelations(const vector<double>& correlations,
                                                   const vector<double>& weights,
                                                   const vector<double>& shares,
                                                   const vector<int>& torsions) {
    requireNoContext("setLatentCorrelations");
    if (correlations.size() != weights.size())
        throw OpenMMException("There must be as many weights as latent correlations");
    if (!shares.empty() && correlations.size() != shares.size())
        throw OpenMMException("There must be as many shares as latent correlations");
    if (!torsions.empty() && correlations.size() != torsions.size())
        throw OpenMMException("There must be as many numbers of torsions as latent correlations");
    checkTorsionSteps(torsions, shares);
    if (!all_of(shares.begin(), shares.end(), [](double share) { return share > 0 && share <= 1; }))
        throw OpenMMException("The shares of latent variables that are drawn must be above 0, and 1 at most");
    if (!all_of(correlations.begin(), correlations.end(), [](double rho) { return rho >= 0 && rho < 1; }))
        throw OpenMMException("Latent correlations must be at least 0 and less than 1");
    if (!all_of(weights.begin(), weights.end(), [](double w) { return isfinite(w) && w >= 0; }))
        throw OpenMMException("Weights of latent correlations must not be negative, nor NaN or infinite");
    if (!weights.empty() && !any_of(weights.begin(), weights.end(), [](double w) { return w > 0; }))
        throw OpenMMException("At least one of the weights of latent correlations must be positive");
    latentCorrelations = correlations;
    latentWeights = weights;
    latentShares = shares.empty() ? vector<double>(weights.size(), 1.0) : shares;
    latentTorsions = torsions.empty() ? vector<int>(weights.size(), 0) : torsions;
}

int TimewarpMCMCIntegrator::getBatchSize() const {
    return batchSize;
}

void TimewarpMCMCIntegrator::setBatchSize(int size) {
    if (size < 0)
        throw OpenMMException("Batch size must be positive, or 0 to adapt to the acceptance rate");
    batchSize = size;
}

int TimewarpMCMCIntegrator::getRandomNumberSeed() const {
    if (chain != nullptr && chain->getSeedIsSet())
        return chain->getSeed();
    return randomNumberSeed;
}

void TimewarpMCMCIntegrator::setRandomNumberSeed(int seed) {
    randomNumberSeed = seed;
    if (chain != nullptr)
        chain->setSeed(seed == 0 ? chain->getSeed() : seed, seed != 0);
}

const vector<int>& TimewarpMCMCIntegrator::getParticles() const {
    return firstBlock().particles;
}

void TimewarpMCMCIntegrator::setParticles(const vector<int>& newParticles) {
    requireNoContext("setParticles");
    firstBlock();
    blocks[0]->particles = newParticles;
    topologySize = 0;
}

int TimewarpMCMCIntegrator::getTopologySize() const {
    return topologySize;
}

void TimewarpMCMCIntegrator::setTopologySize(int size) {
    requireNoContext("setTopologySize");
    topologySize = size;
}

const string& TimewarpMCMCIntegrator::getSurrogate() const {
    static const string none;
    return surrogate == nullptr ? none : surrogate->getContent();
}

void TimewarpMCMCIntegrator::setSurrogate(const string& content) {
    requireNoContext("setSurrogate");
    surrogate = (content.empty() ? nullptr : make_shared<SurrogateEnergy>(content));
}

int TimewarpMCMCIntegrator::getSubchainLength() const {
    return subchainLength;
}

void TimewarpMCMCIntegrator::setSubchainLength(int length) {
    if (length < 1)
        throw OpenMMException("Subchain length must be positive");
    subchainLength = length;
}

void TimewarpMCMCIntegrator::requireOwnProcess() const {
    const string& platform = context->getPlatform().getName();
    if (platform != "Reference" && origin->isLeft())
        throw OpenMMException(
                "Timewarp: this process was forked after its Context had been made, and does not have "
                "the threads that the " +
                platform +
                " platform started then (or its device), for which it would "
                "wait for ever; make the Context in the forked process, or start processes with "
                "multiprocessing.get_context('spawn')");
}

const Chain& TimewarpMCMCIntegrator::requireChain() const {
    if (chain == nullptr)
        throw OpenMMException("This Integrator is not bound to a context!");
    requireOwnProcess();
    return *chain;
}

/*
 * What has been done so far.
 */

template <class Function> static long long sumOver(int numBlocks, Function count) {
    long long sum = 0;
    for (int i = 0; i < numBlocks; i++)
        sum += count(i);
    return sum;
}

long long TimewarpMCMCIntegrator::getNumProposed() const {
    return sumOver(getNumBlocks(), [this](int i) { return getBlockNumTried(i); });
}

long long TimewarpMCMCIntegrator::getNumAccepted() const {
    return sumOver(getNumBlocks(), [this](int i) { return getBlockNumAccepted(i); });
}

long long TimewarpMCMCIntegrator::getNumNonFinite() const {
    return sumOver(getNumBlocks(), [this](int i) { return getBlockNumNonFinite(i); });
}

double TimewarpMCMCIntegrator::getSurrogateAcceptanceRate() const {
    long long iterations = sumOver(getNumBlocks(), [this](int i) { return countersOf(i).iteration; });
    long long accepted =
            sumOver(getNumBlocks(), [this](int i) { return countersOf(i).numSurrogateAccepted; });
    return iterations == 0 ? 0.0 : accepted / (double)iterations;
}

double TimewarpMCMCIntegrator::getAcceptanceRate() const {
    long long proposed = getNumProposed();
    return proposed == 0 ? 0.0 : getNumAccepted() / (double)proposed;
}

/*
 * Contexts.
 */

vector<int> TimewarpMCMCIntegrator::particlesOf(const Block& of, const System& system) const {
    vector<int> particles = of.particles;
    if (particles.empty()) {
        particles.resize(system.getNumParticles());
        iota(particles.begin(), particles.end(), 0);
    }
    return particles;
}

BlockAtoms TimewarpMCMCIntegrator::checkBlock(ContextImpl& contextRef, const Block& of) const {
    const System& system = contextRef.getSystem();
    BlockAtoms atoms(particlesOf(of, system));
    vector<pair<int, int>> bonds;
    for (ForceImpl* force : contextRef.getForceImpls())
        for (auto& bond : force->getBondedParticles())
            bonds.push_back(bond);
    // Force fields leave out the energy of a bond whose length is constrained.
    for (int i = 0; i < system.getNumConstraints() && !bonds.empty(); i++) {
        int particle1, particle2;
        double distance;
        system.getConstraintParameters(i, particle1, particle2, distance);
        bonds.emplace_back(particle1, particle2);
    }
    const ModelMetadata& metadata = of.model->getMetadata();
    const vector<double>& lags = metadata.lagTimes;
    if (!latentCorrelations.empty() &&
        none_of(lags.begin(), lags.end(), [&](double lag) { return of.model->isIndependentDraw(lag); }))
        throw OpenMMException(
                "Timewarp: latent correlations are for models that draw independently of the state, "
                "and " +
                of.modelPath + " does not; call setLatentCorrelation([])");
    const bool drawsTorsions =
            any_of(latentTorsions.begin(), latentTorsions.end(), [](int number) { return number > 0; });
    if (drawsTorsions && metadata.torsionNoise.empty())
        throw OpenMMException("Timewarp: " + of.modelPath +
                              (metadata.namesTorsionNoise ? " has no rotatable torsions to draw"
                                                          : " does not say which numbers of its noise make "
                                                            "rotatable torsions; export it again") +
                              ", or call setLatentCorrelation() without torsions");
    metadata.checkSystem(system, atoms.particles, bonds);
    if (!metadata.anyMolecule)
        atoms.moved = atoms.redrawn = metadata.moved;
    return atoms;
}

void TimewarpMCMCIntegrator::checkStepsDoSomething(int proposals) const {
    if (blocks.empty() && dynamicsSteps == 0)
        throw OpenMMException("Timewarp: the Integrator has nothing to do; call addBlock() or setDynamics()");
    if (proposals == 0 && dynamicsSteps == 0)
        throw OpenMMException("Timewarp: a step of no proposals and no dynamics would do nothing; call "
                              "setProposalsPerStep(1), or setDynamics() before the Context is made");
}

void TimewarpMCMCIntegrator::checkWeights() const {
    double sum = 0;
    for (auto& of : blocks)
        sum += of->weight;
    if (!blocks.empty() && !(isfinite(sum) && sum > 0))
        throw OpenMMException(
                sum == 0
                        ? "Timewarp: the weights of all blocks are 0, so that none would ever be tried; give "
                          "addBlock() a positive weight for at least one"
                        : "Timewarp: the weights of the blocks add up to infinity; give addBlock() smaller "
                          "ones");
}

void TimewarpMCMCIntegrator::checkNothingIsFrozen(ContextImpl& contextRef) const {
    const System& system = contextRef.getSystem();
    vector<bool> isMoved(system.getNumParticles(), false);
    for (Integrator* integrator : integratorsOf(contextRef)) {
        auto* other = dynamic_cast<TimewarpMCMCIntegrator*>(integrator);
        if (other == NULL || other->dynamicsSteps > 0 || other->frozenOthers)
            return;
        for (auto& of : other->blocks) {
            if (of->weight == 0)
                continue;
            const vector<int> particles = other->particlesOf(*of, system);
            const ModelMetadata& metadata = of->model->getMetadata();
            for (int particle : metadata.anyMolecule ? particles : chosen(particles, metadata.moved))
                if (particle >= 0 && particle < system.getNumParticles())
                    isMoved[particle] = true;
        }
    }
    int numFrozen = 0, first = -1;
    for (int i = system.getNumParticles() - 1; i >= 0; i--)
        if (!isMoved[i] && system.getParticleMass(i) != 0) {
            numFrozen++;
            first = i;
        }
    if (numFrozen > 0)
        throw OpenMMException(
                "Timewarp: nothing moves " + to_string(numFrozen) +
                " of the System's particles, the first of them " + to_string(first) +
                ", so the chain would not sample the System's Boltzmann distribution; move them by dynamics "
                "between the proposals (setDynamics(), or a LangevinMiddleIntegrator in a "
                "CompoundIntegrator) or "
                "by blocks of their own, or call setFrozenOthers(True) if they are to stay where they are");
}

void TimewarpMCMCIntegrator::initialize(ContextImpl& contextRef) {
    if (owner != NULL && &contextRef.getOwner() != owner)
        throw OpenMMException("This Integrator is already bound to a context");

    // Check the System before binding to the Context, so that a refused integrator can be used with another.

    const System& system = contextRef.getSystem();
    checkStepsDoSomething(proposalsPerStep);
    if (surrogate != nullptr && blocks.size() != 1)
        throw OpenMMException("Timewarp: a surrogate is for an integrator with one model, and this one has " +
                              to_string(blocks.size()) + "; call setSurrogate(None)");
    if (topologySize != 0 && topologySize != system.getNumParticles())
        throw OpenMMException("Timewarp: the topology has " + to_string(topologySize) +
                              " atoms but the System has " + to_string(system.getNumParticles()) +
                              " particles, so that it does not say which of them the model moves; pass "
                              "topology= of the whole System");
    checkWeights();
    vector<BlockAtoms> atoms;
    vector<ConstraintMetric> metrics;
    vector<Kernel> kernels;
    auto checkOne = [&](const Block& of) {
        atoms.push_back(checkBlock(contextRef, of));
        metrics.emplace_back(system, atoms.back().particles, atoms.back().moved);
        findKeptStretches(metrics.back(), of.model->getMetadata(), atoms.back().particles);
        atoms.back().redrawn = joined(atoms.back().moved, metrics.back().getAtoms());
    };
    for (size_t i = 0; i < blocks.size(); i++)
        if (hasModel && blocks.size() == 1)
            checkOne(*blocks[i]);
        else
            namingBlock(i, blocks[i]->modelPath, [&] { checkOne(*blocks[i]); });
    if (!blocks.empty())
        checkNothingIsFrozen(contextRef);
    for (size_t i = 0; i < blocks.size(); i++) {
        kernels.push_back(contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef));
        auto& kernel = kernels.back().getAs<TimewarpStateKernel>();
        kernel.initialize(system, atoms[i]);
        chooseDevice(contextRef, kernel, *blocks[i]->model);
    }
    context = &contextRef;
    owner = &contextRef.getOwner();
    replicas = make_unique<ReplicaNumbers>();
    origin = make_unique<ProcessOfOrigin>();
    uint16_t number = 0;
    for (Integrator* integrator : integratorsOf(contextRef)) {
        if (integrator == this)
            break;
        number += (dynamic_cast<TimewarpMCMCIntegrator*>(integrator) != NULL);
    }
    int seed = (randomNumberSeed == 0 ? osrngseed() : randomNumberSeed);
    chain = make_unique<Chain>(number, digestOfSystem(system));
    chain->setSeed(seed, randomNumberSeed != 0);
    if (dynamicsSteps > 0)
        chain->setDynamics(make_unique<LocalDynamics>(contextRef, seed));
    for (size_t i = 0; i < blocks.size(); i++) {
        blocks[i]->kernel = kernels[i];
        makeBlock(contextRef, atoms[i], metrics[i], *blocks[i], i);
    }
    if (hasModel)
        blocks[0]->flow->setLagWeights(lagWeights);
}

bool TimewarpMCMCIntegrator::screens(ContextImpl& contextRef, const Block& of) const {
    return screening && hasOthers(contextRef.getSystem(), of.moved);
}

shared_ptr<BatchEnergy> TimewarpMCMCIntegrator::makeScreening(ContextImpl& contextRef,
                                                              const BlockAtoms& atoms, Block& of) {
    if (terms == nullptr) {
        terms = make_shared<SystemTerms>(contextRef.getSystem(), getIntegrationForceGroups());
        systemState = make_shared<SharedSystemState>();
    }
    auto energy = make_unique<LocalEnergy>(terms, atoms.particles, atoms.moved);
    auto& kernel = of.kernel.getAs<TimewarpStateKernel>();
    DeviceLoan loan(kernel, contextRef);
    energy->useDevice(loan, kernel.getModelDevice());
    return make_shared<LocalScreening>(std::move(energy), systemState);
}

void TimewarpMCMCIntegrator::makeBlock(ContextImpl& contextRef, const BlockAtoms& atoms,
                                       const ConstraintMetric& metric, Block& of, int index) {
    of.allParticles = atoms.particles;
    of.moved.clear();
    for (int atom : atoms.moved)
        of.moved.push_back(atoms.particles[atom]);
    BlockSurroundings surroundings;
    surroundings.number = index;
    surroundings.particles = atoms.particles;
    surroundings.moved = of.moved;
    surroundings.images = PeriodicImages(contextRef, atoms.particles);
    surroundings.movedAtoms = atoms.moved;
    surroundings.metric = metric;
    surroundings.keptStretches = findKeptStretches(metric, of.model->getMetadata(), atoms.particles);
    surroundings.velocities =
            BlockVelocities(contextRef, atoms.particles, atoms.redrawn, !metric.getBonds().empty());
    Block* current = &of;
    surroundings.keptByOthers = [this, current](ContextImpl& context, const vector<Vec3>& positions,
                                                const DeviceLoan& loan) {
        return keptByOthers(context, positions, loan, *current);
    };
    if (!surroundings.images.areOfSeveralMolecules())
        surroundings.rigidMoves = {rigidTranslation, rigidRotation};
    if (atoms.moved.size() < atoms.particles.size())
        surroundings.keptByOthers = [](ContextImpl&, const vector<Vec3>&, const DeviceLoan&) {
            // Its place is that of its context, which it is not to move.

            return KeptMotions{false, false};
        };
    auto flow = make_unique<FlowMove>(of.model, of.kernel, surroundings);
    of.flow = flow.get();
    vector<pair<LatentStep, double>> latentSteps;
    for (size_t i = 0; i < latentCorrelations.size(); i++)
        latentSteps.emplace_back(LatentStep{latentCorrelations[i], latentShares[i], latentTorsions[i]},
                                 latentWeights[i]);
    flow->setLatentCorrelations(latentSteps);
    unique_ptr<Move> move;
    shared_ptr<BatchEnergy> first = surrogate;
    if (first == nullptr && screens(contextRef, of))
        first = makeScreening(contextRef, atoms, of);
    of.delayed = nullptr;
    if (first == nullptr)
        move = std::move(flow);
    else {
        auto delayed = make_unique<DelayedAcceptance>(std::move(flow), first);
        of.delayed = delayed.get();
        delayed->setSubchainLength(subchainLength);
        move = std::move(delayed);
    }
    chain->addMove(withRigidMoves(std::move(move), atoms, surroundings, of), of.weight);
}

unique_ptr<Move> TimewarpMCMCIntegrator::withRigidMoves(unique_ptr<Move> shape, const BlockAtoms& atoms,
                                                        const BlockSurroundings& surroundings,
                                                        Block& of) const {
    const RigidMoveSize& size = surroundings.rigidMoves;
    if (!(size.translation > 0 || size.rotation > 0) || atoms.moved.size() < atoms.particles.size())
        return shape;
    const uint16_t number = RigidMove::NUMBER | surroundings.number;
    auto make = [=, metric = surroundings.metric](ContextImpl& context) {
        Kernel kernel = context.getPlatform().createKernel(TimewarpStateKernel::Name(), context);
        kernel.getAs<TimewarpStateKernel>().initialize(context.getSystem(), atoms);
        return make_unique<RigidMove>(number, kernel, atoms.particles, metric, size);
    };
    auto move = make_unique<WithRigidMoves>(std::move(shape), *of.flow, make);
    of.rigid = move.get();
    return move;
}

KeptMotions TimewarpMCMCIntegrator::keptByOthers(ContextImpl& contextRef, const vector<Vec3>& positions,
                                                 const DeviceLoan& loan, const Block& of) const {
    // Dynamics turn and move all that has mass.

    KeptMotions kept;
    for (Integrator* integrator : integratorsOf(contextRef)) {
        auto* other = dynamic_cast<TimewarpMCMCIntegrator*>(integrator);
        if (other == NULL || other->dynamicsSteps > 0)
            kept.join({false, false});
        else
            kept.join(other->keptBy(positions, loan, of));
    }
    return kept;
}

KeptMotions TimewarpMCMCIntegrator::keptBy(const vector<Vec3>& positions, const DeviceLoan& loan,
                                           const Block& of) const {
    set<int> theirs(of.moved.begin(), of.moved.end());
    KeptMotions kept;
    for (auto& own : blocks) {
        if (own.get() == &of || own->flow == nullptr || own->weight == 0 ||
            none_of(own->moved.begin(), own->moved.end(),
                    [&](int particle) { return theirs.count(particle) > 0; }))
            continue;
        vector<Vec3> ofBlock;
        for (int particle : own->allParticles)
            ofBlock.push_back(positions[particle]);
        kept.join(own->model->findKeptMotions(loan, ofBlock, own->flow->getLagWeights()));
    }
    return kept;
}

void TimewarpMCMCIntegrator::chooseDevice(ContextImpl& contextRef, TimewarpStateKernel& kernel,
                                          ProposalModel& model) {
    DeviceLoan loan(kernel, contextRef);
    int device = kernel.getModelDevice();
    model.useDevice(loan, device);
    if (surrogate != nullptr)
        surrogate->useDevice(loan, device);
    if (!useCudaGraphs) {
        model.setGraphRecorder(loan, nullptr);
        return;
    }
    if (model.getDevice() == "cpu")
        throw OpenMMException(
                string("Timewarp: setUseCudaGraphs(True) needs a model that runs on a CUDA device, but here "
                       "it runs on the CPU, because ") +
                (device < 0 ? "the Context's platform is not CUDA; create the Context on the CUDA platform"
                            : "the installed torch is a build without CUDA, or finds no device; install a "
                              "CUDA build of torch") +
                ", or call setUseCudaGraphs(False)");
    model.setGraphRecorder(loan, kernel.createGraphRecorder());
}

void TimewarpMCMCIntegrator::cleanup() {
    for (auto& of : blocks) {
        if (of->flow == nullptr)
            continue;
        if (of->model->usesGraphs()) {
            DeviceLoan loan(of->kernel.getAs<TimewarpStateKernel>(), *context);
            of->model->setGraphRecorder(loan, nullptr);
        }
        of->counters = of->flow->getCounters();
        if (of->rigid != nullptr)
            of->rigidCounters = of->rigid->getRigidCounters();
        of->flow = nullptr;
        of->delayed = nullptr;
        of->rigid = nullptr;
    }
    chain.reset();
    terms.reset();
    systemState.reset();
    for (auto& of : blocks)
        of->kernel = Kernel();
}

vector<string> TimewarpMCMCIntegrator::getKernelNames() {
    vector<string> names = {TimewarpStateKernel::Name()};
    if (dynamicsSteps > 0)
        names.push_back(IntegrateLangevinMiddleStepKernel::Name());
    return names;
}

double TimewarpMCMCIntegrator::computeKineticEnergy() {
    requireChain();
    if (dynamicsSteps > 0)
        return chain->getDynamics().computeKineticEnergy(*context);
    return blocks[0]->kernel.getAs<TimewarpStateKernel>().computeKineticEnergy(*context);
}

bool TimewarpMCMCIntegrator::kineticEnergyRequiresForce() const {
    return false;
}

void TimewarpMCMCIntegrator::step(int steps) {
    requireChain();
    for (auto& of : blocks) {
        of->flow->setBatchSize(batchSize);
        if (of->delayed != nullptr)
            of->delayed->setSubchainLength(subchainLength);
    }
    try {
        chain->run(*context,
                   {temperature,
                    getIntegrationForceGroups(),
                    getStepSize(),
                    interruptionCheck,
                    proposalsPerStep,
                    {dynamicsSteps, dynamicsStepSize, dynamicsFriction},
                    blocksPerTry},
                   steps);
    }
    catch (const ModelInterrupted&) {
        // The state is as it was, and whoever interrupts knows why.
    }
}

void TimewarpMCMCIntegrator::trustFile(const string& sha256) {
    TimewarpPlugin::trustFile(sha256);
}

void TimewarpMCMCIntegrator::checkFile(const string& name, const string& content) {
    checkTorchFile(name, content);
}

void TimewarpMCMCIntegrator::setInterruptionCheck(bool (*check)()) {
    interruptionCheck = check;
    setModelInterruptionCheck(check);
}

void TimewarpMCMCIntegrator::createCheckpoint(ostream& stream) const {
    requireChain();
    writeCheckpoint(stream, chain->save(*context));
}

void TimewarpMCMCIntegrator::loadCheckpoint(istream& stream) {
    requireChain();
    Record record = readCheckpoint(stream);
    Chain::RandomPlace place = chain->check(record);
    chain->resume(*context, record, place);
    takeLagWeights();
    randomNumberSeed = (place.seedIsSet ? place.seed : 0);
}

void TimewarpMCMCIntegrator::serializeParameters(SerializationNode& node) const {
    requireChain();
    writeNode(node, chain->save(*context));
}

void TimewarpMCMCIntegrator::deserializeParameters(const SerializationNode& node) {
    requireChain();

    // A State that was saved with another integrator has parameters of that one, or none.

    if (!nodeHasRecord(node))
        return;
    Record record = readNode(node);
    Chain::RandomPlace place = chain->check(record);
    if (randomNumberSeed != 0) {
        place.seed = randomNumberSeed;
        place.seedIsSet = 1;
    }
    place.replica = replicas->choose(place.seed, place.replica, place.trial);
    chain->resume(*context, record, place);
    takeLagWeights();
}

void TimewarpMCMCIntegrator::takeLagWeights() {
    if (hasModel)
        lagWeights = blocks[0]->flow->getLagWeights();
}
