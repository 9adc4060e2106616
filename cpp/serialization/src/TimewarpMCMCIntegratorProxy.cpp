#include "TimewarpMCMCIntegratorProxy.h"
#include "Base64.h"
#include "Sha256.h"
#include "TimewarpMCMCIntegrator.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"
#include <memory>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

TimewarpMCMCIntegratorProxy::TimewarpMCMCIntegratorProxy() : SerializationProxy("TimewarpMCMCIntegrator") {
}

void TimewarpMCMCIntegratorProxy::serialize(const void* object, SerializationNode& node) const {
    node.setIntProperty("version", 1);
    const TimewarpMCMCIntegrator& integrator = *reinterpret_cast<const TimewarpMCMCIntegrator*>(object);
    node.setStringProperty("modelPath", integrator.getModelPath());
    node.setStringProperty("modelSha256", integrator.getModelSha256());
    if (integrator.getEmbedModel())
        node.setStringProperty("modelContent", encodeBase64(integrator.getModelContent()));
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
    SerializationNode& lags = node.createChildNode("LagWeights");
    for (double weight : integrator.getLagWeights())
        lags.createChildNode("Lag").setDoubleProperty("weight", weight);
    node.setIntProperty("topologySize", integrator.getTopologySize());
    SerializationNode& particles = node.createChildNode("Particles");
    for (int particle : integrator.getParticles())
        particles.createChildNode("Particle").setIntProperty("index", particle);
}

/**
 * Create an integrator with the model that a node embeds or refers to, and no other.
 */
static unique_ptr<TimewarpMCMCIntegrator> createIntegrator(const SerializationNode& node) {
    const string& path = node.getStringProperty("modelPath");
    if (node.hasProperty("modelContent")) {
        string content;
        try {
            content = decodeBase64(node.getStringProperty("modelContent"));
        }
        catch (const OpenMMException& error) {
            throw OpenMMException("Timewarp: the embedded model " + path + " is damaged: " + error.what());
        }
        if (sha256(content) != node.getStringProperty("modelSha256"))
            throw OpenMMException("Timewarp: the embedded model " + path +
                                  " is damaged: it has another SHA-256 digest than is written beside it");
        return make_unique<TimewarpMCMCIntegrator>(path, content);
    }
    auto integrator = make_unique<TimewarpMCMCIntegrator>(path);
    if (node.hasProperty("modelSha256") &&
        node.getStringProperty("modelSha256") != integrator->getModelSha256())
        throw OpenMMException("Timewarp: the model file " + path +
                              " has changed since the integrator was serialized: its SHA-256 digest is " +
                              integrator->getModelSha256() + " instead of " +
                              node.getStringProperty("modelSha256") +
                              "; put the right file there, or create a new integrator with this one");
    return integrator;
}

void* TimewarpMCMCIntegratorProxy::deserialize(const SerializationNode& node) const {
    if (node.getIntProperty("version") != 1)
        throw OpenMMException("Unsupported version number");
    auto integrator = createIntegrator(node);
    if (node.hasProperty("temperature"))
        integrator->setTemperature(node.getDoubleProperty("temperature"));
    if (node.hasProperty("stepSize"))
        integrator->setStepSize(node.getDoubleProperty("stepSize"));
    integrator->setConstraintTolerance(node.getDoubleProperty("constraintTolerance", 1e-5));
    integrator->setBatchSize(node.getIntProperty("batchSize", 0));
    integrator->setRandomNumberSeed(node.getIntProperty("randomSeed", 0));
    integrator->setIntegrationForceGroups(node.getIntProperty("integrationForceGroups", 0xFFFFFFFF));
    integrator->setSubchainLength(node.getIntProperty("subchainLength", 1));
    integrator->setSurrogate(decodeBase64(node.getStringProperty("surrogate", "")));
    integrator->setUseCudaGraphs(node.getBoolProperty("useCudaGraphs", false));
    vector<int> particles;
    vector<double> weights;
    for (const SerializationNode& child : node.getChildren()) {
        if (child.getName() == "Particles")
            for (const SerializationNode& particle : child.getChildren())
                particles.push_back(particle.getIntProperty("index"));
        if (child.getName() == "LagWeights")
            for (const SerializationNode& lag : child.getChildren())
                weights.push_back(lag.getDoubleProperty("weight"));
    }
    integrator->setParticles(particles);
    integrator->setTopologySize(node.getIntProperty("topologySize", 0));
    if (!weights.empty())
        integrator->setLagWeights(weights);
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
