#include "TimewarpMCMCIntegrator.h"
#include "ForkedProcess.h"
#include "Interruption.h"
#include "ProposalChain.h"
#include "ProposalModel.h"
#include "ReplicaNumbers.h"
#include "Sha256.h"
#include "SurrogateEnergy.h"
#include "TimewarpKernels.h"
#include "TrustedFiles.h"
#include "openmm/CompoundIntegrator.h"
#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ForceImpl.h"
#include "openmm/internal/OSRngSeed.h"
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

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath)
        : TimewarpMCMCIntegrator(modelPath, make_unique<ProposalModel>(modelPath), false) {
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath, const string& modelContent)
        : TimewarpMCMCIntegrator(modelPath, make_unique<ProposalModel>(modelPath, modelContent), true) {
}

TimewarpMCMCIntegrator::TimewarpMCMCIntegrator(const string& modelPath, unique_ptr<ProposalModel> newModel,
                                               bool embed)
        : modelPath(modelPath), numProposed(0), numAccepted(0), numNonFinite(0), surrogateAcceptanceRate(0),
          topologySize(0), model(std::move(newModel)) {
    setEmbedModel(embed);
    setTemperature(model->getMetadata().temperature);
    setLagWeights(model->getMetadata().lagWeights);
    setStepSize(nominalLag(model->getMetadata()));
    setConstraintTolerance(1e-5);
    setBatchSize(0);
    setRandomNumberSeed(0);
    setSubchainLength(1);
    setUseCudaGraphs(false);
}

TimewarpMCMCIntegrator::~TimewarpMCMCIntegrator() {
}

const string& TimewarpMCMCIntegrator::getModelPath() const {
    return modelPath;
}

const string& TimewarpMCMCIntegrator::getModelContent() const {
    return model->getContent();
}

const string& TimewarpMCMCIntegrator::getModelSha256() const {
    return model->getSha256();
}

string TimewarpMCMCIntegrator::getModelDevice() const {
    return model->getDevice();
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
    if (context != NULL)
        throw OpenMMException(
                "setUseCudaGraphs() cannot be called after the Integrator is bound to a context");
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
    return model->getMetadata().lagTimes;
}

const vector<double>& TimewarpMCMCIntegrator::getLagWeights() const {
    return lagWeights;
}

void TimewarpMCMCIntegrator::setLagWeights(const vector<double>& weights) {
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
        chain->setLagWeights(weights);
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
    if (chain != nullptr && chain->getCounters().seedIsSet)
        return chain->getCounters().seed;
    return randomNumberSeed;
}

void TimewarpMCMCIntegrator::setRandomNumberSeed(int seed) {
    randomNumberSeed = seed;
    if (chain != nullptr)
        chain->setSeed(seed == 0 ? chain->getCounters().seed : seed, seed != 0);
}

const vector<int>& TimewarpMCMCIntegrator::getParticles() const {
    return particles;
}

void TimewarpMCMCIntegrator::setParticles(const vector<int>& newParticles) {
    if (context != NULL)
        throw OpenMMException("setParticles() cannot be called after the Integrator is bound to a context");
    particles = newParticles;
    topologySize = 0;
}

int TimewarpMCMCIntegrator::getTopologySize() const {
    return topologySize;
}

void TimewarpMCMCIntegrator::setTopologySize(int size) {
    if (context != NULL)
        throw OpenMMException(
                "setTopologySize() cannot be called after the Integrator is bound to a context");
    topologySize = size;
}

const string& TimewarpMCMCIntegrator::getSurrogate() const {
    static const string none;
    return surrogate == nullptr ? none : surrogate->getContent();
}

void TimewarpMCMCIntegrator::setSurrogate(const string& content) {
    if (context != NULL)
        throw OpenMMException("setSurrogate() cannot be called after the Integrator is bound to a context");
    surrogate = (content.empty() ? nullptr : make_unique<SurrogateEnergy>(content));
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
                "Timewarp: this process was forked after its Context had been made, and does not "
                "have the threads that the " +
                platform +
                " platform started then (or its device), for which it would wait for "
                "ever; make the Context in the forked process, or start processes with "
                "multiprocessing.get_context('spawn')");
}

const ProposalChain& TimewarpMCMCIntegrator::requireChain() const {
    if (chain == nullptr)
        throw OpenMMException("This Integrator is not bound to a context!");
    requireOwnProcess();
    return *chain;
}

long long TimewarpMCMCIntegrator::getNumProposed() const {
    return chain == nullptr ? numProposed : chain->getCounters().numSteps;
}

long long TimewarpMCMCIntegrator::getNumAccepted() const {
    return chain == nullptr ? numAccepted : chain->getCounters().numAccepted;
}

long long TimewarpMCMCIntegrator::getNumNonFinite() const {
    return chain == nullptr ? numNonFinite : chain->getCounters().numNonFinite;
}

double TimewarpMCMCIntegrator::getSurrogateAcceptanceRate() const {
    if (chain == nullptr)
        return surrogateAcceptanceRate;
    const ChainCounters& counters = chain->getCounters();
    return counters.iteration == 0 ? 0.0 : counters.numSurrogateAccepted / (double)counters.iteration;
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
    if (topologySize != 0 && topologySize != system.getNumParticles())
        throw OpenMMException("Timewarp: the topology has " + to_string(topologySize) +
                              " atoms but the System has " + to_string(system.getNumParticles()) +
                              " particles, so that it does not say which of them the model moves; pass "
                              "topology= of the whole System");
    vector<int> newMoved = particles;
    if (newMoved.empty()) {
        newMoved.resize(system.getNumParticles());
        iota(newMoved.begin(), newMoved.end(), 0);
    }
    vector<pair<int, int>> bonds;
    for (ForceImpl* force : contextRef.getForceImpls())
        for (auto& bond : force->getBondedParticles())
            bonds.push_back(bond);
    model->getMetadata().checkSystem(system, newMoved, bonds);
    Kernel newKernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
    newKernel.getAs<TimewarpStateKernel>().initialize(system, newMoved);
    chooseDevice(contextRef, newKernel.getAs<TimewarpStateKernel>());
    context = &contextRef;
    owner = &contextRef.getOwner();
    moved = newMoved;
    kernel = newKernel;
    origin = make_unique<ProcessOfOrigin>();
    systemSha256 = digestOfSystem(system);
    replicas = make_unique<ReplicaNumbers>();
    int seed = (randomNumberSeed == 0 ? osrngseed() : randomNumberSeed);
    chain = make_unique<ProposalChain>(*model, kernel, seed, findSurroundings(contextRef));
    chain->setSeed(seed, randomNumberSeed != 0);
    chain->setLagWeights(lagWeights);
    chain->setSurrogate(surrogate.get());
}

ChainSurroundings TimewarpMCMCIntegrator::findSurroundings(ContextImpl& contextRef) {
    ChainSurroundings surroundings;
    for (Integrator* integrator : integratorsOf(contextRef)) {
        if (integrator == this)
            break;
        surroundings.number += (dynamic_cast<TimewarpMCMCIntegrator*>(integrator) != NULL);
    }
    surroundings.particles = moved;
    surroundings.images = PeriodicImages(contextRef, moved);
    surroundings.centerOfMass = CenterOfMass(contextRef, moved);
    surroundings.keptByOthers = [this](ContextImpl& context, const vector<Vec3>& positions,
                                       const DeviceLoan& loan) {
        return keptByOthers(context, positions, loan);
    };
    return surroundings;
}

KeptMotions TimewarpMCMCIntegrator::keptByOthers(ContextImpl& contextRef, const vector<Vec3>& positions,
                                                 const DeviceLoan& loan) const {
    // Dynamics turn and move all that has mass.

    KeptMotions kept;
    for (Integrator* integrator : integratorsOf(contextRef)) {
        auto* other = dynamic_cast<TimewarpMCMCIntegrator*>(integrator);
        if (other == NULL)
            kept.join({false, false});
        else if (other != this)
            kept.join(other->keptBy(positions, loan, moved));
    }
    return kept;
}

KeptMotions TimewarpMCMCIntegrator::keptBy(const vector<Vec3>& positions, const DeviceLoan& loan,
                                           const vector<int>& of) const {
    set<int> theirs(of.begin(), of.end());
    if (none_of(moved.begin(), moved.end(), [&](int particle) { return theirs.count(particle) > 0; }))
        return KeptMotions();
    vector<Vec3> ofMoved;
    for (int particle : moved)
        ofMoved.push_back(positions[particle]);
    return model->findKeptMotions(loan, ofMoved, lagWeights);
}

void TimewarpMCMCIntegrator::chooseDevice(ContextImpl& contextRef, TimewarpStateKernel& kernel) {
    DeviceLoan loan(kernel, contextRef);
    int device = kernel.getModelDevice();
    model->useDevice(loan, device);
    if (surrogate != nullptr)
        surrogate->useDevice(loan, device);
    if (!useCudaGraphs) {
        model->setGraphRecorder(loan, nullptr);
        return;
    }
    if (model->getDevice() == "cpu")
        throw OpenMMException(
                string("Timewarp: setUseCudaGraphs(True) needs a model that runs on a CUDA device, but here "
                       "it runs on the CPU, because ") +
                (device < 0 ? "the Context's platform is not CUDA; create the Context on the CUDA platform"
                            : "the installed torch is a build without CUDA, or finds no device; install a "
                              "CUDA build of torch") +
                ", or call setUseCudaGraphs(False)");
    model->setGraphRecorder(loan, kernel.createGraphRecorder());
}

void TimewarpMCMCIntegrator::cleanup() {
    if (model->usesGraphs()) {
        DeviceLoan loan(kernel.getAs<TimewarpStateKernel>(), *context);
        model->setGraphRecorder(loan, nullptr);
    }
    numProposed = getNumProposed();
    numAccepted = getNumAccepted();
    numNonFinite = getNumNonFinite();
    surrogateAcceptanceRate = getSurrogateAcceptanceRate();
    chain.reset();
    kernel = Kernel();
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
    try {
        chain->run(*context,
                   {temperature, batchSize, getIntegrationForceGroups(), getStepSize(), interruptionCheck,
                    subchainLength},
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

ChainIdentity TimewarpMCMCIntegrator::getIdentity() const {
    return {modelPath,    getModelSha256(), sha256(moved.data(), moved.size() * sizeof(int)),
            systemSha256, moved.size(),     getLagTimes().size()};
}

void TimewarpMCMCIntegrator::setChainState(const ChainState& state) {
    chain->setState(*context, state);
    lagWeights = state.lagWeights;
}

void TimewarpMCMCIntegrator::createCheckpoint(ostream& stream) const {
    requireChain();
    writeCheckpoint(stream, chain->getState(*context), getIdentity());
}

void TimewarpMCMCIntegrator::loadCheckpoint(istream& stream) {
    requireChain();
    ChainState state = readCheckpoint(stream, getIdentity());
    setChainState(state);
    randomNumberSeed = (state.counters.seedIsSet ? state.counters.seed : 0);
}

void TimewarpMCMCIntegrator::serializeParameters(SerializationNode& node) const {
    requireChain();
    writeNode(node, chain->getState(*context), getIdentity());
}

void TimewarpMCMCIntegrator::deserializeParameters(const SerializationNode& node) {
    requireChain();

    // A State that was saved with another integrator has parameters of that one, or none.

    if (!node.hasProperty("modelSha256"))
        return;
    ChainState state = readNode(node, getIdentity());
    ChainCounters& counters = state.counters;
    const int64_t seed = counters.seed, replica = counters.replica;
    if (randomNumberSeed != 0) {
        counters.seed = randomNumberSeed;
        counters.seedIsSet = 1;
    }
    counters.replica = replicas->choose(counters.seed, replica, counters.iteration);
    if (counters.seed != seed || counters.replica != replica)
        state.discardPrefetched();
    setChainState(state);
}
