#include "TimewarpMCMCIntegrator.h"
#include "ProposalChain.h"
#include "ProposalModel.h"
#include "TimewarpKernels.h"
#include "openmm/Context.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ForceImpl.h"
#include "openmm/internal/OSRngSeed.h"
#include "openmm/serialization/SerializationNode.h"
#include <atomic>
#include <cmath>
#include <cstring>
#include <istream>
#include <numeric>
#include <ostream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static atomic<bool (*)()> interruptionCheck(NULL);

// Marks this integrator's part of a checkpoint, and its version.
static const char CHECKPOINT_MAGIC[8] = {'T', 'W', 'M', 'C', 'M', 'C', '0', '1'};

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

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath)
        : modelPath(modelPath), numProposed(0), numAccepted(0), numNonFinite(0) {
    model = make_unique<ProposalModel>(modelPath);
    setTemperature(model->getMetadata().temperature);
    setStepSize(nominalLag(model->getMetadata()));
    setConstraintTolerance(1e-5);
    setBatchSize(0);
    setRandomNumberSeed(0);
}

TimewarpMCMCIntegrator::~TimewarpMCMCIntegrator() {
}

const string& TimewarpMCMCIntegrator::getModelPath() const {
    return modelPath;
}

double TimewarpMCMCIntegrator::getTemperature() const {
    return temperature;
}

void TimewarpMCMCIntegrator::setTemperature(double temp) {
    if (!(isfinite(temp) && temp > 0))
        throw OpenMMException("Temperature must be positive");
    temperature = temp;
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
    return randomNumberSeed;
}

void TimewarpMCMCIntegrator::setRandomNumberSeed(int seed) {
    randomNumberSeed = seed;
    if (chain != nullptr && seed != 0)
        chain->setSeed(seed);
}

const vector<int>& TimewarpMCMCIntegrator::getParticles() const {
    return particles;
}

void TimewarpMCMCIntegrator::setParticles(const vector<int>& newParticles) {
    if (context != NULL)
        throw OpenMMException("setParticles() cannot be called after the Integrator is bound to a context");
    particles = newParticles;
}

const ProposalChain& TimewarpMCMCIntegrator::requireChain() const {
    if (chain == nullptr)
        throw OpenMMException("This Integrator is not bound to a context!");
    return *chain;
}

long long TimewarpMCMCIntegrator::getNumProposed() const {
    return chain == nullptr ? numProposed : chain->getCounters().iteration;
}

long long TimewarpMCMCIntegrator::getNumAccepted() const {
    return chain == nullptr ? numAccepted : chain->getCounters().numAccepted;
}

long long TimewarpMCMCIntegrator::getNumNonFinite() const {
    return chain == nullptr ? numNonFinite : chain->getCounters().numNonFinite;
}

double TimewarpMCMCIntegrator::getAcceptanceRate() const {
    long long proposed = getNumProposed();
    return proposed == 0 ? 0.0 : getNumAccepted() / (double)proposed;
}

void TimewarpMCMCIntegrator::initialize(ContextImpl& contextRef) {
    if (owner != NULL && &contextRef.getOwner() != owner)
        throw OpenMMException("This Integrator is already bound to a context");

    // Check the System before binding to the Context, so that a refused integrator can be used with another.

    const System& system = contextRef.getSystem();
    vector<int> moved = particles;
    if (moved.empty()) {
        moved.resize(system.getNumParticles());
        iota(moved.begin(), moved.end(), 0);
    }
    vector<pair<int, int>> bonds;
    for (ForceImpl* force : contextRef.getForceImpls())
        for (auto& bond : force->getBondedParticles())
            bonds.push_back(bond);
    model->getMetadata().checkSystem(system, moved, bonds);
    context = &contextRef;
    owner = &contextRef.getOwner();
    Kernel kernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
    kernel.getAs<TimewarpStateKernel>().initialize(system, moved);
    int seed = (randomNumberSeed == 0 ? osrngseed() : randomNumberSeed);
    chain = make_unique<ProposalChain>(*model, kernel, seed);
}

void TimewarpMCMCIntegrator::cleanup() {
    numProposed = getNumProposed();
    numAccepted = getNumAccepted();
    numNonFinite = getNumNonFinite();
    chain.reset();
}

vector<string> TimewarpMCMCIntegrator::getKernelNames() {
    return {TimewarpStateKernel::Name()};
}

double TimewarpMCMCIntegrator::computeKineticEnergy() {
    requireChain();
    return chain->computeKineticEnergy(*context);
}

bool TimewarpMCMCIntegrator::kineticEnergyRequiresForce() const {
    return false;
}

void TimewarpMCMCIntegrator::step(int steps) {
    requireChain();
    chain->run(*context,
               {temperature, batchSize, getIntegrationForceGroups(), getStepSize(), interruptionCheck},
               steps);
}

void TimewarpMCMCIntegrator::setInterruptionCheck(bool (*check)()) {
    interruptionCheck = check;
}

void TimewarpMCMCIntegrator::createCheckpoint(ostream& stream) const {
    requireChain();
    ChainCounters counters = chain->getCounters(*context);
    stream.write(CHECKPOINT_MAGIC, sizeof(CHECKPOINT_MAGIC));
    stream.write(reinterpret_cast<const char*>(&counters), sizeof(counters));
}

void TimewarpMCMCIntegrator::loadCheckpoint(istream& stream) {
    requireChain();
    char magic[sizeof(CHECKPOINT_MAGIC)];
    ChainCounters counters;
    stream.read(magic, sizeof(magic));
    stream.read(reinterpret_cast<char*>(&counters), sizeof(counters));
    if (!stream || memcmp(magic, CHECKPOINT_MAGIC, sizeof(magic)) != 0)
        throw OpenMMException("loadCheckpoint: the checkpoint is truncated or was not made with a "
                              "TimewarpMCMCIntegrator of this version");
    chain->setCounters(*context, counters);
}

void TimewarpMCMCIntegrator::serializeParameters(SerializationNode& node) const {
    requireChain();
    ChainCounters counters = chain->getCounters(*context);
    node.setIntProperty("version", 1);
    node.setLongProperty("seed", counters.seed);
    node.setLongProperty("iteration", counters.iteration);
    node.setLongProperty("numAccepted", counters.numAccepted);
    node.setLongProperty("numNonFinite", counters.numNonFinite);
    node.setLongProperty("numDiscarded", counters.numDiscarded);
    node.setLongProperty("lookAheadStart", counters.lookAheadStart);
    node.setLongProperty("lookAheadSize", counters.lookAheadSize);
    node.setLongProperty("positionsMoved", counters.positionsMoved);
    node.setLongProperty("stateLogDensityKnown", counters.stateLogDensityKnown);
    node.setDoubleProperty("stateLogDensity", counters.stateLogDensity);
    node.setLongProperty("originKnown", counters.originKnown);
    for (int j = 0; j < 3; j++)
        node.setDoubleProperty("origin" + to_string(j), counters.origin[j]);
}

void TimewarpMCMCIntegrator::deserializeParameters(const SerializationNode& node) {
    requireChain();

    // A State that was saved with another integrator has parameters of that one, or none.

    if (!node.hasProperty("lookAheadStart"))
        return;
    if (node.getIntProperty("version") != 1)
        throw OpenMMException("Unsupported version number");
    ChainCounters counters;
    counters.seed = node.getLongProperty("seed");
    counters.iteration = node.getLongProperty("iteration");
    counters.numAccepted = node.getLongProperty("numAccepted");
    counters.numNonFinite = node.getLongProperty("numNonFinite");
    counters.numDiscarded = node.getLongProperty("numDiscarded");
    counters.lookAheadStart = node.getLongProperty("lookAheadStart");
    counters.lookAheadSize = node.getLongProperty("lookAheadSize");
    counters.positionsMoved = node.getLongProperty("positionsMoved");
    counters.stateLogDensityKnown = node.getLongProperty("stateLogDensityKnown");
    counters.stateLogDensity = node.getDoubleProperty("stateLogDensity");
    counters.originKnown = node.getLongProperty("originKnown");
    for (int j = 0; j < 3; j++)
        counters.origin[j] = node.getDoubleProperty("origin" + to_string(j));
    chain->setCounters(*context, counters);
}
