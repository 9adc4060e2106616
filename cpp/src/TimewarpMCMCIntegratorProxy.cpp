#include "TimewarpMCMCIntegratorProxy.h"
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
    node.setDoubleProperty("temperature", integrator.getTemperature());
    node.setDoubleProperty("stepSize", integrator.getStepSize());
    node.setDoubleProperty("constraintTolerance", integrator.getConstraintTolerance());
    node.setIntProperty("batchSize", integrator.getBatchSize());
    node.setIntProperty("randomSeed", integrator.getRandomNumberSeed());
    node.setIntProperty("integrationForceGroups", integrator.getIntegrationForceGroups());
    SerializationNode& particles = node.createChildNode("Particles");
    for (int particle : integrator.getParticles())
        particles.createChildNode("Particle").setIntProperty("index", particle);
}

void* TimewarpMCMCIntegratorProxy::deserialize(const SerializationNode& node) const {
    if (node.getIntProperty("version") != 1)
        throw OpenMMException("Unsupported version number");
    auto integrator = make_unique<TimewarpMCMCIntegrator>(node.getStringProperty("modelPath"));
    if (node.hasProperty("temperature"))
        integrator->setTemperature(node.getDoubleProperty("temperature"));
    if (node.hasProperty("stepSize"))
        integrator->setStepSize(node.getDoubleProperty("stepSize"));
    integrator->setConstraintTolerance(node.getDoubleProperty("constraintTolerance", 1e-5));
    integrator->setBatchSize(node.getIntProperty("batchSize", 0));
    integrator->setRandomNumberSeed(node.getIntProperty("randomSeed", 0));
    integrator->setIntegrationForceGroups(node.getIntProperty("integrationForceGroups", 0xFFFFFFFF));
    vector<int> particles;
    for (const SerializationNode& child : node.getChildren())
        if (child.getName() == "Particles")
            for (const SerializationNode& particle : child.getChildren())
                particles.push_back(particle.getIntProperty("index"));
    integrator->setParticles(particles);
    return integrator.release();
}

/**
 * Registered when the library is loaded, as OpenMM's own plugins do it.
 */
static struct RegisterProxy {
    RegisterProxy() {
        SerializationProxy::registerProxy(typeid(TimewarpMCMCIntegrator), new TimewarpMCMCIntegratorProxy());
    }
} registerProxy;
