#include "Interruption.h"
#include <atomic>
#include <chrono>
#include <csignal>
#include <sys/syscall.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <unistd.h>

using namespace TimewarpPlugin;
using namespace std;
using torch::jit::Block;
using torch::jit::Node;

static const char* const POINT = "timewarp::interruption_point";

static atomic<bool (*)()> interruptionCheck(NULL);
static thread_local bool interrupted = false;

void TimewarpPlugin::setModelInterruptionCheck(bool (*check)()) {
    interruptionCheck = check;
}

bool TimewarpPlugin::takeModelInterruption() {
    bool taken = interrupted;
    interrupted = false;
    return taken;
}

static void askWhetherToStop() {
    static thread_local chrono::steady_clock::time_point lastAsked;
    auto check = interruptionCheck.load();
    auto now = chrono::steady_clock::now();
    if (check == NULL || now - lastAsked < chrono::milliseconds(100))
        return;
    lastAsked = now;
    if (check()) {
        interrupted = true;
        throw ModelInterrupted("interrupted");
    }
}

static torch::jit::RegisterOperators registered({torch::jit::Operator(
        string(POINT) + "() -> ()", [](torch::jit::Stack&) { askWhetherToStop(); },
        c10::AliasAnalysisKind::CONSERVATIVE)});

static void insertPoint(torch::jit::Graph& graph, Block* block) {
    graph.create(c10::Symbol::fromQualString(POINT), 0)->insertAfter(block->param_node());
}

static void insertInLoops(torch::jit::Graph& graph, Block* block) {
    for (Node* node : block->nodes())
        for (Block* inner : node->blocks()) {
            insertInLoops(graph, inner);
            if (node->kind() == c10::prim::Loop)
                insertPoint(graph, inner);
        }
}

void TimewarpPlugin::insertInterruptionPoints(torch::jit::Graph& graph) {
    insertInLoops(graph, graph.block());
    insertPoint(graph, graph.block());
}

// A signal handler can only look at what is static.
static struct sigaction ofCaller;
static volatile sig_atomic_t numInterrupts;
static atomic<bool> isInstalled(false);

static void handleInterrupt(int signal, siginfo_t* info, void* context) {
    numInterrupts = numInterrupts + 1;
    if (numInterrupts > 1) {
        ::signal(signal, SIG_DFL);
        raise(signal);
    }
    else if (ofCaller.sa_flags & SA_SIGINFO)
        ofCaller.sa_sigaction(signal, info, context);
    else
        ofCaller.sa_handler(signal);
}

SecondInterruptKills::SecondInterruptKills() : installed(false) {
    if (syscall(SYS_gettid) != getpid() || isInstalled)
        return;
    struct sigaction current;
    sigaction(SIGINT, NULL, &current);
    if (!(current.sa_flags & SA_SIGINFO) && (current.sa_handler == SIG_DFL || current.sa_handler == SIG_IGN))
        return;
    ofCaller = current;
    numInterrupts = 0;
    struct sigaction own = current;
    own.sa_sigaction = handleInterrupt;
    own.sa_flags |= SA_SIGINFO;
    installed = isInstalled = (sigaction(SIGINT, &own, NULL) == 0);
}

SecondInterruptKills::~SecondInterruptKills() {
    if (!installed)
        return;

    // Unless somebody has set a handler meanwhile, which stays.

    struct sigaction current;
    sigaction(SIGINT, NULL, &current);
    if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == handleInterrupt)
        sigaction(SIGINT, &ofCaller, NULL);
    isInstalled = false;
}
