#include "TimewarpMCMCIntegrator.h"
#include "ProposalChain.h"
#include "ProposalModel.h"
#include "Sha256.h"
#include "SurrogateEnergy.h"
#include "TimewarpKernels.h"
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
 * What tells one System from another in a checkpoint: masses, constraints, kinds of forces, and the particles
 * that the model moves.
 */
static string digestOfSystem(const System& system, const vector<int>& moved) {
    stringstream text;
    text << setprecision(17);
    for (int i = 0; i < system.getNumParticles(); i++)
        text << system.getParticleMass(i) << (system.isVirtualSite(i) ? " site " : " ");
    text << "constraints " << system.getNumConstraints();
    for (int i = 0; i < system.getNumForces(); i++)
        text << " " << typeid(system.getForce(i)).name();
    for (int particle : moved)
        text << " " << particle;
    return sha256(text.str());
}

/**
 * In a periodic System, displacements that give an image of a state, as far as a model can tell: every
 * molecule has its own.
 */
static vector<Vec3> imageShifts(const ContextImpl& context, const vector<int>& moved) {
    if (!context.getSystem().usesPeriodicBoundaryConditions())
        return {};
    vector<Vec3> shifts(context.getSystem().getNumParticles());
    double scale = 1;
    for (const vector<int>& molecule : context.getMolecules()) {
        for (int particle : molecule)
            shifts[particle] = Vec3(1.3, -0.7, 0.4) * scale;
        scale = -0.8 * scale;
    }
    vector<Vec3> ofAtoms;
    for (int particle : moved)
        ofAtoms.push_back(shifts[particle]);
    return ofAtoms;
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
          numAtoms(0), model(move(newModel)) {
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

const ProposalChain& TimewarpMCMCIntegrator::requireChain() const {
    if (chain == nullptr)
        throw OpenMMException("This Integrator is not bound to a context!");
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
    Kernel kernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
    chooseDevice(kernel.getAs<TimewarpStateKernel>());
    context = &contextRef;
    owner = &contextRef.getOwner();
    kernel.getAs<TimewarpStateKernel>().initialize(system, moved);
    int seed = (randomNumberSeed == 0 ? osrngseed() : randomNumberSeed);
    chain = make_unique<ProposalChain>(*model, kernel, seed, imageShifts(contextRef, moved));
    chain->setLagWeights(lagWeights);
    chain->setSurrogate(surrogate.get());
    systemSha256 = digestOfSystem(system, moved);
    numAtoms = moved.size();
}

void TimewarpMCMCIntegrator::chooseDevice(const TimewarpStateKernel& kernel) {
    int device = kernel.getModelDevice();
    model->useDevice(device);
    if (surrogate != nullptr)
        surrogate->useDevice(device);
    if (!useCudaGraphs) {
        model->setGraphRecorder(nullptr);
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
    model->setGraphRecorder(kernel.createGraphRecorder());
}

void TimewarpMCMCIntegrator::cleanup() {
    model->setGraphRecorder(nullptr);
    numProposed = getNumProposed();
    numAccepted = getNumAccepted();
    numNonFinite = getNumNonFinite();
    surrogateAcceptanceRate = getSurrogateAcceptanceRate();
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
               {temperature, batchSize, getIntegrationForceGroups(), getStepSize(), interruptionCheck,
                subchainLength},
               steps);
}

void TimewarpMCMCIntegrator::setInterruptionCheck(bool (*check)()) {
    interruptionCheck = check;
}

ChainIdentity TimewarpMCMCIntegrator::getIdentity() const {
    return {modelPath, getModelSha256(), systemSha256, numAtoms, getLagTimes().size()};
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
    setChainState(readCheckpoint(stream, getIdentity()));
}

void TimewarpMCMCIntegrator::serializeParameters(SerializationNode& node) const {
    requireChain();
    writeNode(node, chain->getState(*context), getIdentity());
}

void TimewarpMCMCIntegrator::deserializeParameters(const SerializationNode& node) {
    requireChain();

    // A State that was saved with another integrator has parameters of that one, or none.

    if (!node.hasProperty("lookAheadStart"))
        return;
    setChainState(readNode(node, getIdentity()));
}
