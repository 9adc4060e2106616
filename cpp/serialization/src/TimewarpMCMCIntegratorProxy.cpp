#include "TimewarpMCMCIntegratorProxy.h"
#include "Base64.h"
#include "Sha256.h"
#include "TimewarpMCMCIntegrator.h"
#include "internal/BlockErrors.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"
#include <map>
#include <memory>
#include <set>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

TimewarpMCMCIntegratorProxy::TimewarpMCMCIntegratorProxy() : SerializationProxy("TimewarpMCMCIntegrator") {
}

/*
 * Settings that are the same in all versions.
 */

static void writeSettings(const TimewarpMCMCIntegrator& integrator, SerializationNode& node) {
    node.setDoubleProperty("temperature", integrator.getTemperature());
    node.setDoubleProperty("stepSize", integrator.getStepSize());
    node.setDoubleProperty("constraintTolerance", integrator.getConstraintTolerance());
    node.setIntProperty("batchSize", integrator.getBatchSize());
    node.setIntProperty("randomSeed", integrator.getRandomNumberSeed());
    node.setIntProperty("integrationForceGroups", integrator.getIntegrationForceGroups());
    node.setIntProperty("subchainLength", integrator.getSubchainLength());
    if (!integrator.getSurrogate().empty())
        node.setStringProperty("surrogate", encodeBase64(integrator.getSurrogate()));
    node.setBoolProperty("useCudaGraphs", integrator.getUseCudaGraphs());
    node.setIntProperty("topologySize", integrator.getTopologySize());
    node.setIntProperty("proposalsPerStep", integrator.getProposalsPerStep());
    node.setIntProperty("blocksPerTry", integrator.getBlocksPerTry());
    node.setBoolProperty("frozenOthers", integrator.getFrozenOthers());
    node.setBoolProperty("screening", integrator.getScreening());
    node.setDoubleProperty("rigidTranslation", integrator.getRigidTranslation());
    node.setDoubleProperty("rigidRotation", integrator.getRigidRotation());
    SerializationNode& latent = node.createChildNode("LatentCorrelations");
    for (size_t i = 0; i < integrator.getLatentCorrelations().size(); i++)
        latent.createChildNode("Latent")
                .setDoubleProperty("correlation", integrator.getLatentCorrelations()[i])
                .setDoubleProperty("weight", integrator.getLatentCorrelationWeights()[i])
                .setDoubleProperty("share", integrator.getLatentShares()[i])
                .setIntProperty("torsions", integrator.getLatentTorsions()[i]);
    SerializationNode& dynamics = node.createChildNode("Dynamics");
    dynamics.setIntProperty("steps", integrator.getDynamicsSteps());
    dynamics.setDoubleProperty("stepSize", integrator.getDynamicsStepSize());
    dynamics.setDoubleProperty("frictionCoeff", integrator.getDynamicsFriction());
    if (!integrator.getHasModel())
        return;
    SerializationNode& lags = node.createChildNode("LagWeights");
    for (double weight : integrator.getLagWeights())
        lags.createChildNode("Lag").setDoubleProperty("weight", weight);
}

static const SerializationNode* findChild(const SerializationNode& node, const string& name) {
    for (const SerializationNode& child : node.getChildren())
        if (child.getName() == name)
            return &child;
    return NULL;
}

static void readSettings(const SerializationNode& node, TimewarpMCMCIntegrator& integrator) {
    // What a file does not say is left at its default, or as the model says.

    if (node.hasProperty("temperature"))
        integrator.setTemperature(node.getDoubleProperty("temperature"));
    if (node.hasProperty("stepSize"))
        integrator.setStepSize(node.getDoubleProperty("stepSize"));
    integrator.setConstraintTolerance(node.getDoubleProperty("constraintTolerance", 1e-5));
    integrator.setBatchSize(node.getIntProperty("batchSize", 0));
    integrator.setRandomNumberSeed(node.getIntProperty("randomSeed", 0));
    integrator.setIntegrationForceGroups(node.getIntProperty("integrationForceGroups", 0xFFFFFFFF));
    integrator.setSubchainLength(node.getIntProperty("subchainLength", 1));
    integrator.setSurrogate(decodeBase64(node.getStringProperty("surrogate", "")));
    integrator.setUseCudaGraphs(node.getBoolProperty("useCudaGraphs", false));
    integrator.setTopologySize(node.getIntProperty("topologySize", 0));
    integrator.setProposalsPerStep(node.getIntProperty("proposalsPerStep", 1));
    integrator.setBlocksPerTry(node.getIntProperty("blocksPerTry", 1));
    integrator.setFrozenOthers(node.getBoolProperty("frozenOthers", false));
    integrator.setScreening(node.getBoolProperty("screening", true));
    integrator.setRigidMoves(node.getDoubleProperty("rigidTranslation", integrator.getRigidTranslation()),
                             node.getDoubleProperty("rigidRotation", integrator.getRigidRotation()));
    vector<double> correlations, latentWeights, latentShares;
    vector<int> latentTorsions;
    for (const SerializationNode& child : node.getChildren())
        if (child.getName() == "LatentCorrelations")
            for (const SerializationNode& latent : child.getChildren()) {
                correlations.push_back(latent.getDoubleProperty("correlation"));
                latentWeights.push_back(latent.getDoubleProperty("weight"));
                latentShares.push_back(latent.getDoubleProperty("share", 1.0));
                latentTorsions.push_back(latent.getIntProperty("torsions", 0));
            }
    integrator.setLatentCorrelations(correlations, latentWeights, latentShares, latentTorsions);
    if (const SerializationNode* dynamics = findChild(node, "Dynamics"))
        integrator.setDynamics(dynamics->getIntProperty("steps"), dynamics->getDoubleProperty("stepSize"),
                               dynamics->getDoubleProperty("frictionCoeff"));
    vector<double> weights;
    if (const SerializationNode* lags = findChild(node, "LagWeights"))
        for (const SerializationNode& lag : lags->getChildren())
            weights.push_back(lag.getDoubleProperty("weight"));
    if (!weights.empty())
        integrator.setLagWeights(weights);
}

/*
 * Blocks, and the models that are embedded.
 */

static void writeModels(const TimewarpMCMCIntegrator& integrator, SerializationNode& models) {
    set<string> written;
    for (int i = 0; i < integrator.getNumBlocks(); i++) {
        const string& digest = integrator.getBlockModelSha256(i);
        if (!written.insert(digest).second)
            continue;
        SerializationNode& model = models.createChildNode("Model");
        model.setStringProperty("sha256", digest);
        model.setStringProperty("content", encodeBase64(integrator.getBlockModelContent(i)));
    }
}

static void writeBlocks(const TimewarpMCMCIntegrator& integrator, SerializationNode& blocks) {
    for (int i = 0; i < integrator.getNumBlocks(); i++) {
        SerializationNode& block = blocks.createChildNode("Block");
        block.setStringProperty("modelPath", integrator.getBlockModelPath(i));
        block.setStringProperty("modelSha256", integrator.getBlockModelSha256(i));
        block.setDoubleProperty("weight", integrator.getBlockWeight(i));
        SerializationNode& particles = block.createChildNode("Particles");
        for (int particle : integrator.getBlockParticles(i))
            particles.createChildNode("Particle").setIntProperty("index", particle);
    }
}

namespace {

/**
 * A model that several blocks may have, decoded when the first of them asks for it.
 */
struct EmbeddedModel {
    /** In Base64. */
    string encoded;
    string content;
    bool isDecoded = false;
};

/**
 * What a file says of a block.
 */
struct SavedBlock {
    string path, digest;
    /** NULL if the model is not embedded. */
    shared_ptr<EmbeddedModel> embedded;
    vector<int> particles;
    double weight = 1.0;
};

} // namespace

static vector<int> readParticles(const SerializationNode& node) {
    vector<int> particles;
    if (const SerializationNode* list = findChild(node, "Particles"))
        for (const SerializationNode& particle : list->getChildren())
            particles.push_back(particle.getIntProperty("index"));
    return particles;
}

/**
 * Read what stands on a node about one block.
 */
static SavedBlock readBlock(const SerializationNode& node) {
    SavedBlock block;
    block.path = node.getStringProperty("modelPath");
    block.digest = node.getStringProperty("modelSha256", "");
    block.particles = readParticles(node);
    block.weight = node.getDoubleProperty("weight", 1.0);
    return block;
}

static vector<SavedBlock> readBlocks(const SerializationNode& node) {
    map<string, shared_ptr<EmbeddedModel>> embedded;
    if (const SerializationNode* models = findChild(node, "Models"))
        for (const SerializationNode& model : models->getChildren())
            embedded[model.getStringProperty("sha256")] =
                    make_shared<EmbeddedModel>(EmbeddedModel{model.getStringProperty("content")});
    vector<SavedBlock> saved;
    if (const SerializationNode* blocks = findChild(node, "Blocks"))
        for (const SerializationNode& child : blocks->getChildren()) {
            saved.push_back(readBlock(child));
            auto model = embedded.find(saved.back().digest);
            if (model != embedded.end())
                saved.back().embedded = model->second;
        }
    return saved;
}

/**
 * The first version had one model, whose entries stand beside the settings.
 */
static vector<SavedBlock> readFirstVersion(const SerializationNode& node) {
    SavedBlock block = readBlock(node);
    if (node.hasProperty("modelContent"))
        block.embedded = make_shared<EmbeddedModel>(EmbeddedModel{node.getStringProperty("modelContent")});
    return {block};
}

static const string& contentOf(const SavedBlock& block) {
    EmbeddedModel& model = *block.embedded;
    if (model.isDecoded)
        return model.content;
    try {
        model.content = decodeBase64(model.encoded);
    }
    catch (const OpenMMException& error) {
        throw OpenMMException("Timewarp: the embedded model " + block.path + " is damaged: " + error.what());
    }
    if (sha256(model.content) != block.digest)
        throw OpenMMException("Timewarp: the embedded model " + block.path +
                              " is damaged: it has another SHA-256 digest than is written beside it");
    model.isDecoded = true;
    return model.content;
}

static void checkDigest(const SavedBlock& block, const string& found) {
    if (!block.digest.empty() && block.digest != found)
        throw OpenMMException("Timewarp: the model file " + block.path +
                              " has changed since the integrator was serialized: its SHA-256 digest is " +
                              found + " instead of " + block.digest +
                              "; put the right file there, or create a new integrator with this one");
}

/**
 * Create an integrator with the model that a file embeds or refers to, and no other.
 */
static unique_ptr<TimewarpMCMCIntegrator> createIntegrator(const SavedBlock& block) {
    unique_ptr<TimewarpMCMCIntegrator> integrator;
    if (block.embedded != nullptr)
        integrator = make_unique<TimewarpMCMCIntegrator>(block.path, contentOf(block));
    else
        integrator = make_unique<TimewarpMCMCIntegrator>(block.path);
    checkDigest(block, integrator->getModelSha256());
    integrator->setParticles(block.particles);
    return integrator;
}

static void addBlock(TimewarpMCMCIntegrator& integrator, const SavedBlock& block) {
    int index = (block.embedded == nullptr
                         ? integrator.addBlock(block.path, block.particles, block.weight)
                         : integrator.addBlock(block.path, contentOf(block), block.particles, block.weight));
    checkDigest(block, integrator.getBlockModelSha256(index));
}

void TimewarpMCMCIntegratorProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 2);
    const TimewarpMCMCIntegrator& integrator = *reinterpret_cast<const TimewarpMCMCIntegrator*>(object);
    node.setBoolProperty("hasModel", integrator.getHasModel());
    node.setBoolProperty("embedModel", integrator.getEmbedModel());
    writeSettings(integrator, node);

    // A node that is given another child may move those that it has.

    if (integrator.getEmbedModel())
        writeModels(integrator, node.createChildNode("Models"));
    writeBlocks(integrator, node.createChildNode("Blocks"));
}

void* TimewarpMCMCIntegratorProxy::deserialize(const SerializationNode& node) const {
    int version = node.getIntProperty("version");
    if (version < 1 || version > 2)
        throw OpenMMException("Unsupported version number");
    vector<SavedBlock> blocks = (version == 1 ? readFirstVersion(node) : readBlocks(node));
    bool hasModel = (version == 1 || node.getBoolProperty("hasModel"));
    if (hasModel && blocks.empty())
        throw OpenMMException(
                "Timewarp: the file of the integrator says that it has a model, but holds none");
    unique_ptr<TimewarpMCMCIntegrator> integrator;
    if (!hasModel)
        integrator = make_unique<TimewarpMCMCIntegrator>(node.getDoubleProperty("temperature"));
    for (size_t i = 0; i < blocks.size(); i++) {
        auto make = [&] {
            if (integrator == nullptr)
                integrator = createIntegrator(blocks[i]);
            else
                addBlock(*integrator, blocks[i]);
        };
        if (hasModel && blocks.size() == 1)
            make();
        else
            namingBlock(i, blocks[i].path, make);
    }
    readSettings(node, *integrator);
    integrator->setEmbedModel(version == 1 ? node.hasProperty("modelContent")
                                           : node.getBoolProperty("embedModel", false));
    return integrator.release();
}

/**
 * Registered when the library is loaded, as OpenMM's own plugins do it.  OpenMM keeps the pointer and never
 * deletes it.
 */
static struct RegisterProxy {
    RegisterProxy() {
        SerializationProxy::registerProxy(typeid(TimewarpMCMCIntegrator), &proxy);
    }
    TimewarpMCMCIntegratorProxy proxy;
} registerProxy;
