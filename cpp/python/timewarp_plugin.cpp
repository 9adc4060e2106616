/*
 * What openmm.Integrator's own Python class does not offer.  Functions take the address of the C++ object,
 * which openmm's SWIG wrapper owns; nothing here creates or destroys one.
 */
#include "TimewarpMCMCIntegrator.h"
#include "openmm/OpenMMException.h"
#include <cstdint>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;
using OpenMM::Integrator;
using TimewarpPlugin::TimewarpMCMCIntegrator;

static TimewarpMCMCIntegrator& integratorAt(std::uintptr_t address) {
    auto* integrator = dynamic_cast<TimewarpMCMCIntegrator*>(reinterpret_cast<Integrator*>(address));
    if (integrator == nullptr)
        throw OpenMM::OpenMMException("This Integrator is not a TimewarpMCMCIntegrator");
    return *integrator;
}

template <typename Result> static auto bindGetter(Result (TimewarpMCMCIntegrator::*method)() const) {
    return [method](std::uintptr_t address) { return (integratorAt(address).*method)(); };
}

template <typename Result> static auto bindBlockGetter(Result (TimewarpMCMCIntegrator::*method)(int) const) {
    return [method](std::uintptr_t address, int index) { return (integratorAt(address).*method)(index); };
}

template <typename Argument> static auto bindSetter(void (TimewarpMCMCIntegrator::*method)(Argument)) {
    return [method](std::uintptr_t address, std::decay_t<Argument> value) {
        (integratorAt(address).*method)(value);
    };
}

/*
 * Ctrl-C.  Python only runs its signal handlers between two of its own instructions, so a long step() would
 * have to end first.  Instead step() asks signalHandlerHasRaised(), which runs the handlers; if one has
 * raised an exception, step() ends early, and the exception is raised as soon as Python is back in control.
 * It cannot pass through step(): openmm's wrapper would turn it into an OpenMMException.
 */

static unsigned long mainThread;
static PyObject *raisedType, *raisedValue, *raisedTraceback;

static int raiseAgain(void*) {
    PyErr_Restore(raisedType, raisedValue, raisedTraceback);
    return -1;
}

static bool signalHandlerHasRaised() {
    // Python runs signal handlers in its main thread only.

    if (PyThread_get_thread_ident() != mainThread || !Py_IsInitialized())
        return false;
    PyGILState_STATE lock = PyGILState_Ensure();
    bool raised = (PyErr_CheckSignals() != 0);
    if (raised) {
        PyErr_Fetch(&raisedType, &raisedValue, &raisedTraceback);
        if (Py_AddPendingCall(raiseAgain, NULL) != 0) {
            // No room: have the handler of Ctrl-C called again instead.

            raiseAgain(NULL);
            PyErr_Clear();
            PyErr_SetInterrupt();
        }
    }
    PyGILState_Release(lock);
    return raised;
}

static void bindBlocks(py::module_& module) {
    module.def("get_has_model", bindGetter(&TimewarpMCMCIntegrator::getHasModel));
    module.def("add_block",
               [](std::uintptr_t address, const std::string& modelPath, const std::vector<int>& particles,
                  double weight) { return integratorAt(address).addBlock(modelPath, particles, weight); });
    module.def("get_num_blocks", bindGetter(&TimewarpMCMCIntegrator::getNumBlocks));
    module.def("get_block_model_path", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockModelPath));
    module.def("get_block_particles", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockParticles));
    module.def("get_block_weight", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockWeight));
    module.def("get_block_num_tried", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumTried));
    module.def("get_block_num_accepted", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumAccepted));
    module.def("get_block_num_screened", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumScreened));
    module.def("get_block_num_non_finite", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumNonFinite));
    module.def("get_proposals_per_step", bindGetter(&TimewarpMCMCIntegrator::getProposalsPerStep));
    module.def("set_proposals_per_step", bindSetter(&TimewarpMCMCIntegrator::setProposalsPerStep));
    module.def("get_blocks_per_try", bindGetter(&TimewarpMCMCIntegrator::getBlocksPerTry));
    module.def("set_blocks_per_try", bindSetter(&TimewarpMCMCIntegrator::setBlocksPerTry));
    module.def("get_screening", bindGetter(&TimewarpMCMCIntegrator::getScreening));
    module.def("set_screening", bindSetter(&TimewarpMCMCIntegrator::setScreening));
    module.def("set_rigid_moves", [](std::uintptr_t address, double maxTranslation, double maxRotation) {
        integratorAt(address).setRigidMoves(maxTranslation, maxRotation);
    });
    module.def("get_rigid_translation", bindGetter(&TimewarpMCMCIntegrator::getRigidTranslation));
    module.def("get_rigid_rotation", bindGetter(&TimewarpMCMCIntegrator::getRigidRotation));
    module.def("get_block_num_rigid_tried", bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumRigidTried));
    module.def("get_block_num_rigid_accepted",
               bindBlockGetter(&TimewarpMCMCIntegrator::getBlockNumRigidAccepted));
    module.def("get_frozen_others", bindGetter(&TimewarpMCMCIntegrator::getFrozenOthers));
    module.def("get_latent_correlations", bindGetter(&TimewarpMCMCIntegrator::getLatentCorrelations));
    module.def("get_latent_correlation_weights",
               bindGetter(&TimewarpMCMCIntegrator::getLatentCorrelationWeights));
    module.def("get_latent_shares", bindGetter(&TimewarpMCMCIntegrator::getLatentShares));
    module.def("get_latent_torsions", bindGetter(&TimewarpMCMCIntegrator::getLatentTorsions));
    module.def("set_latent_correlations",
               [](std::uintptr_t address, const std::vector<double>& correlations,
                  const std::vector<double>& weights, const std::vector<double>& shares,
                  const std::vector<int>& torsions) {
                   integratorAt(address).setLatentCorrelations(correlations, weights, shares, torsions);
               });
    module.def("set_frozen_others", bindSetter(&TimewarpMCMCIntegrator::setFrozenOthers));
}

static void bindDynamics(py::module_& module) {
    module.def("set_dynamics", [](std::uintptr_t address, int steps, double stepSize, double frictionCoeff) {
        integratorAt(address).setDynamics(steps, stepSize, frictionCoeff);
    });
    module.def("get_dynamics_steps", bindGetter(&TimewarpMCMCIntegrator::getDynamicsSteps));
    module.def("get_dynamics_step_size", bindGetter(&TimewarpMCMCIntegrator::getDynamicsStepSize));
    module.def("get_dynamics_friction", bindGetter(&TimewarpMCMCIntegrator::getDynamicsFriction));
}

PYBIND11_MODULE(_plugin, module) {
    mainThread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
    TimewarpMCMCIntegrator::setInterruptionCheck(signalHandlerHasRaised);
    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer)
                std::rethrow_exception(pointer);
        }
        catch (const OpenMM::OpenMMException& error) {
            py::set_error(py::module_::import("openmm").attr("OpenMMException"), error.what());
        }
    });
    module.def("is_timewarp", [](std::uintptr_t address) {
        return dynamic_cast<TimewarpMCMCIntegrator*>(reinterpret_cast<Integrator*>(address)) != nullptr;
    });
    module.def("trust_file", &TimewarpMCMCIntegrator::trustFile);
    module.def("check_module", [](const std::string& name, const py::bytes& content) {
        TimewarpMCMCIntegrator::checkFile(name, content);
    });
    module.def("get_model_path", bindGetter(&TimewarpMCMCIntegrator::getModelPath));
    module.def("get_model_sha256", bindGetter(&TimewarpMCMCIntegrator::getModelSha256));
    module.def("get_model_device", bindGetter(&TimewarpMCMCIntegrator::getModelDevice));
    module.def("get_embed_model", bindGetter(&TimewarpMCMCIntegrator::getEmbedModel));
    module.def("set_embed_model", bindSetter(&TimewarpMCMCIntegrator::setEmbedModel));
    module.def("get_use_cuda_graphs", bindGetter(&TimewarpMCMCIntegrator::getUseCudaGraphs));
    module.def("set_use_cuda_graphs", bindSetter(&TimewarpMCMCIntegrator::setUseCudaGraphs));
    module.def("get_lag_times", bindGetter(&TimewarpMCMCIntegrator::getLagTimes));
    module.def("get_lag_weights", bindGetter(&TimewarpMCMCIntegrator::getLagWeights));
    module.def("set_lag_weights", bindSetter(&TimewarpMCMCIntegrator::setLagWeights));
    module.def("get_temperature", bindGetter(&TimewarpMCMCIntegrator::getTemperature));
    module.def("set_temperature", bindSetter(&TimewarpMCMCIntegrator::setTemperature));
    module.def("get_batch_size", bindGetter(&TimewarpMCMCIntegrator::getBatchSize));
    module.def("set_batch_size", bindSetter(&TimewarpMCMCIntegrator::setBatchSize));
    module.def("get_random_number_seed", bindGetter(&TimewarpMCMCIntegrator::getRandomNumberSeed));
    module.def("set_random_number_seed", bindSetter(&TimewarpMCMCIntegrator::setRandomNumberSeed));
    module.def("get_particles", bindGetter(&TimewarpMCMCIntegrator::getParticles));
    module.def("set_particles", bindSetter(&TimewarpMCMCIntegrator::setParticles));
    module.def("get_topology_size", bindGetter(&TimewarpMCMCIntegrator::getTopologySize));
    module.def("set_topology_size", bindSetter(&TimewarpMCMCIntegrator::setTopologySize));
    // The content is bytes in Python, which a string of C++ would not become by itself.
    module.def("get_surrogate",
               [](std::uintptr_t address) { return py::bytes(integratorAt(address).getSurrogate()); });
    module.def("set_surrogate", [](std::uintptr_t address, const py::bytes& content) {
        integratorAt(address).setSurrogate(content);
    });
    module.def("get_subchain_length", bindGetter(&TimewarpMCMCIntegrator::getSubchainLength));
    module.def("set_subchain_length", bindSetter(&TimewarpMCMCIntegrator::setSubchainLength));
    module.def("get_surrogate_acceptance_rate",
               bindGetter(&TimewarpMCMCIntegrator::getSurrogateAcceptanceRate));
    bindBlocks(module);
    bindDynamics(module);
    module.def("get_num_proposed", bindGetter(&TimewarpMCMCIntegrator::getNumProposed));
    module.def("get_num_accepted", bindGetter(&TimewarpMCMCIntegrator::getNumAccepted));
    module.def("get_num_non_finite", bindGetter(&TimewarpMCMCIntegrator::getNumNonFinite));
    module.def("get_acceptance_rate", bindGetter(&TimewarpMCMCIntegrator::getAcceptanceRate));
}
