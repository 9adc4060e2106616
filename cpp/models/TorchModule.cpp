#include "TorchModule.h"
#include "Interruption.h"
#include "ModelArchive.h"
#include "PickleChecks.h"
#include "PrintableText.h"
#include "ScriptChecks.h"
#include "Sha256.h"
#include "TorchConversions.h"
#include "TrustedFiles.h"
#include "openmm/OpenMMException.h"
#include <memory>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

/**
 * Get the first line of an exception's message, all of whose other lines are torch's stack trace.
 */
static string messageOf(const exception& error) {
    string text = error.what();
    text.erase(0, text.find_first_not_of("\n "));
    return printable(firstLine(text));
}

static bool beginsWith(const string& text, const string& prefix) {
    return text.compare(0, prefix.size(), prefix) == 0;
}

/**
 * Everything of a file that torch looks at when it loads it; what else a TorchScript archive may hold, such
 * as the formats of old versions, would be read by other code.
 */
static bool isKnownMember(const string& name) {
    for (const char* known : {"data.pkl", "constants.pkl", "version", "byteorder", ".format_version",
                              ".storage_alignment", ".data/serialization_id"})
        if (name == known)
            return true;
    for (const char* folder : {"code/", "data/", "constants/", "extra/"})
        if (beginsWith(name, folder))
            return true;
    return false;
}

static bool isPickle(const string& name) {
    const string ending = "pkl";
    return name.size() > ending.size() &&
           name.compare(name.size() - ending.size(), ending.size(), ending) == 0 &&
           !beginsWith(name, "extra/");
}

static void checkMembers(const map<string, string>& members) {
    checkCode(members);
    for (auto& [name, content] : members) {
        if (!isKnownMember(name))
            throw OpenMMException("it holds a member " + name + ", which torch.jit.save does not write");
        if (isPickle(name))
            checkPickle(content, name.substr(0, name.rfind('.')) + "/", members);
    }
}

static void makeInterruptible(const torch::jit::Module& module) {
    for (torch::jit::Function* function : module._ivalue()->compilation_unit()->get_functions())
        if (auto* compiled = torch::jit::tryToGraphFunction(*function))
            insertInterruptionPoints(*compiled->graph());
}

TorchModule::TorchModule(const string& what, const string& content)
        : what(what), content(content), trusted(anyFileIsTrusted() && isTrustedFile(getSha256())),
          device(torch::kCPU) {
    unique_ptr<ModelArchive> archive;
    try {
        archive = make_unique<ModelArchive>(content);
        checked = archive->write();
    }
    catch (const exception& error) {
        throw OpenMMException("Timewarp: " + what +
                              " is not a TorchScript module, or is damaged: " + messageOf(error));
    }
    const map<string, string>& members = archive->getMembers();
    for (auto& [name, member] : members)
        if (beginsWith(name, "extra/"))
            texts[name.substr(6)] = member;
    try {
        if (!trusted)
            checkMembers(members);
        load();
        if (!trusted) {
            checkFunctions(module);
            checkAttributes(module);
        }
    }
    catch (const OpenMMException& error) {
        throw OpenMMException(
                "Timewarp: " + what + " was refused before it ran: " + printable(error.what()) +
                ". A flow or an energy needs arithmetic only (docs/contract.md says what is allowed). "
                "If you know who made the file, trust it: trust=True, or TIMEWARP_TRUSTED_FILES=" +
                getSha256());
    }
    catch (const exception& error) {
        throw OpenMMException("Timewarp: " + what +
                              " cannot be read by this version of torch: " + messageOf(error));
    }
    makeInterruptible(module);
}

void TimewarpPlugin::checkTorchFile(const string& what, const string& content) {
    TorchModule(what, content);
}

const string& TorchModule::getSha256() const {
    call_once(digestIsKnown, [this] { digest = sha256(content); });
    return digest;
}

const string& TorchModule::getText(const string& name) const {
    static const string none;
    auto found = texts.find(name);
    return found == texts.end() ? none : found->second;
}

bool TorchModule::hasMethod(const string& name) const {
    return module.find_method(name).has_value();
}

void TorchModule::moveTo(torch::Device newDevice) {
    if (newDevice == device)
        return;

    // Module::to() would not move the weights of a frozen module, which are constants.

    device = newDevice;
    load();
    makeInterruptible(module);
}

void TorchModule::load() {
    module = torch::jit::load(readerOf(checked), device);
    module.eval();
}

c10::IValue TorchModule::call(const string& method, vector<c10::IValue> arguments) {
    // The interpreter without its optimiser: that one rewrites the graph after a few calls, and the rounding
    // of a resumed run would differ from that of an uninterrupted one.
    torch::jit::GraphOptimizerEnabledGuard noOptimizer(false);
    SecondInterruptKills guard;
    try {
        return module.get_method(method)(move(arguments));
    }
    catch (const exception&) {
        if (takeModelInterruption())
            throw ModelInterrupted("Timewarp: " + method + " of " + what + " was interrupted");
        throw;
    }
}
