#include "ScriptChecks.h"
#include "AllowedOperators.h"
#include "openmm/OpenMMException.h"
#include <set>
#include <string_view>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::jit::Block;
using torch::jit::Function;
using torch::jit::Lexer;
using torch::jit::Node;

// Torch parses and compiles by recursion.
static const size_t MAX_NESTING = 200, MAX_STATEMENT = 2000;
// Of what a call runs to with all that it calls, but for repetitions in loops.
static const double MAX_OPERATIONS = 1e7;

[[noreturn]] static void refuse(const string& what) {
    throw OpenMMException(what);
}

static void requireAllowed(const string& name, const string& where) {
    if (!isAllowedOperator(name))
        refuse("it uses the operator " + name + where);
}

namespace {

/**
 * What torch's lexer finds in a code, which must outlive it.
 */
struct Token {
    int kind;
    string_view text;
};

} // namespace

static vector<Token> tokensOf(const string& code) {
    using torch::jit::Source;
    vector<Token> tokens;
    auto source = make_shared<Source>(code, nullopt, 0, nullptr, Source::DONT_COPY);
    Lexer lexer(source);
    for (; lexer.cur().kind != torch::jit::TK_EOF; lexer.next())
        tokens.push_back({lexer.cur().kind, lexer.cur().text_view()});
    return tokens;
}

static bool isName(const Token& token, const char* name) {
    return token.kind == torch::jit::TK_IDENT && token.text == name;
}

/**
 * Check a use of one of the two names that operators are reached by, torch.add and ops.prim.device.  Another
 * use of them, such as another name for either, would hide an operator.
 */
static void checkOperator(const vector<Token>& tokens, size_t i) {
    auto part = [&](size_t k) {
        bool isPart = i + 2 * k < tokens.size() && tokens[i + 2 * k - 1].kind == '.';
        return string(isPart ? tokens[i + 2 * k].text : "");
    };
    string name = isName(tokens[i], "torch") ? "aten::" + part(1) : part(1) + "::" + part(2);
    requireAllowed(name, "");
}

static void checkSize(const vector<Token>& tokens) {
    size_t nesting = 0, indentation = 0, statement = 0;
    for (const Token& token : tokens) {
        switch (token.kind) {
        case '(':
        case '[':
        case '{':
            nesting++;
            break;
        case ')':
        case ']':
        case '}':
            nesting -= (nesting > 0);
            break;
        case torch::jit::TK_INDENT:
            indentation++;
            statement = 0;
            break;
        case torch::jit::TK_DEDENT:
            indentation -= (indentation > 0);
            break;
        case torch::jit::TK_NEWLINE:
            statement = 0;
            break;
        case ',':
        case torch::jit::TK_NUMBER:
        case torch::jit::TK_STRINGLITERAL:
            break;
        default:
            statement++;
        }
        if (nesting > MAX_NESTING || indentation > MAX_NESTING || statement > MAX_STATEMENT)
            refuse("its code is nested too deeply");
    }
}

static void checkText(const vector<Token>& tokens) {
    for (size_t i = 0; i < tokens.size(); i++) {
        const Token& token = tokens[i];
        if (token.kind != torch::jit::TK_IDENT)
            continue;
        bool isMember = (i > 0 && tokens[i - 1].kind == '.');
        if (isName(token, "__setstate__") || isName(token, "__getstate__"))
            refuse("it has a method " + string(token.text) + ", which runs when the file is read");
        if (isName(token, "classes") && isMember && i > 1 && isName(tokens[i - 2], "torch"))
            refuse("it uses a class of torch's own, torch.classes, which runs code when the file is read");
        if (!isMember && (isName(token, "torch") || isName(token, "ops")))
            checkOperator(tokens, i);
    }
}

void TimewarpPlugin::checkCode(const map<string, string>& members) {
    for (auto& [name, content] : members)
        if (name.compare(0, 5, "code/") == 0 && name.size() > 3 && name.substr(name.size() - 3) == ".py") {
            vector<Token> tokens = tokensOf(content);
            checkSize(tokens);
            checkText(tokens);
        }
}

/**
 * Get whether a value of a type is, or holds, an object.
 */
static bool holdsObject(const c10::TypePtr& type) {
    if (type->kind() == c10::TypeKind::ClassType || type->kind() == c10::TypeKind::InterfaceType)
        return true;
    for (const c10::TypePtr& contained : type->containedTypes())
        if (holdsObject(contained))
            return true;
    return false;
}

namespace {

/**
 * Walks through functions and what they call.
 */
class FunctionWalk {
public:
    /** Get the number of operations that a call of a function runs to. */
    double count(Function& function) {
        auto known = counts.find(&function);
        if (known != counts.end()) {
            if (known->second < 0)
                refuse("its function " + function.qualname().name() + " calls itself");
            return known->second;
        }
        auto* compiled = torch::jit::tryToGraphFunction(function);
        if (compiled == nullptr)
            refuse("it calls " + function.qualname().qualifiedName() + ", which is not in the file");
        if (++depth > MAX_NESTING)
            refuse("its calls are nested too deeply");
        counts[&function] = -1;
        double total = countIn(compiled->graph()->block(), function);
        depth--;
        if (total > MAX_OPERATIONS)
            refuse("its function " + function.qualname().name() + " runs to too many operations");
        return counts[&function] = total;
    }

private:
    double countIn(const Block* block, const Function& function) {
        double total = 0;
        for (const Node* node : block->nodes()) {
            check(*node, function);
            total += 1;
            if (node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction)
                total += count(called(*node));
            for (const Block* inner : node->blocks())
                total += countIn(inner, function);
        }
        return total;
    }

    void check(const Node& node, const Function& function) {
        if (!allowed.count(node.kind()))
            requireAllowed(node.kind().toQualString(), " (in " + function.qualname().name() + ")");
        allowed.insert(node.kind());

        // These take a value for what the code says it is, without looking.

        if (node.kind() == c10::prim::unchecked_cast || node.kind() == c10::prim::Uninitialized)
            if (holdsObject(node.output()->type()))
                refuse(string("it uses the operator ") + node.kind().toQualString() + " for an object (in " +
                       function.qualname().name() + ")");
    }

    static Function& called(const Node& node) {
        c10::TypePtr type = node.input(0)->type();
        if (auto function = type->cast<c10::FunctionType>())
            return *function->function();
        auto object = type->cast<c10::ClassType>();
        Function* method = object == nullptr || node.kind() != c10::prim::CallMethod
                                   ? nullptr
                                   : object->findMethod(node.s(c10::attr::name));
        if (method == nullptr)
            refuse("it calls a method that is only known when it runs");
        return *method;
    }

    unordered_map<Function*, double> counts;
    unordered_set<c10::Symbol> allowed;
    size_t depth = 0;
};

} // namespace

void TimewarpPlugin::checkFunctions(const torch::jit::Module& module) {
    FunctionWalk walk;
    for (Function* function : module._ivalue()->compilation_unit()->get_functions())
        walk.count(*function);
}

namespace {

class AttributeWalk {
public:
    void check(const c10::IValue& value, const c10::TypePtr& type, const string& name) {
        if (value.isObject()) {
            auto object = value.toObject();
            if (!object->type()->isSubtypeOf(*withoutOptional(type)))
                fail(name);
            if (seen.insert(object.get()).second)
                for (size_t i = 0; i < object->type()->numAttributes(); i++)
                    check(object->getSlot(i), object->type()->getAttribute(i),
                          object->type()->getAttributeName(i));
            return;
        }
        if (value.isNone()
                    ? type->kind() != c10::TypeKind::NoneType && type->kind() != c10::TypeKind::OptionalType
                    : !value.type()->isSubtypeOf(*type))
            fail(name);
        // What is shared is looked at once for each type: nested lists that hold one another twice would take
        // time exponential in their depth.

        if (!value.isPtrType() || seenAs.insert({value.internalToPointer(), type.get()}).second)
            checkItems(value, withoutOptional(type), name);
    }

private:
    [[noreturn]] static void fail(const string& name) {
        refuse("its attribute " + name + " is not of the type that its class declares");
    }

    static c10::TypePtr withoutOptional(const c10::TypePtr& type) {
        auto optional = type->cast<c10::OptionalType>();
        return optional == nullptr ? type : optional->getElementType();
    }

    void checkItems(const c10::IValue& value, const c10::TypePtr& type, const string& name) {
        if (value.isList())
            for (const c10::IValue& item : value.toListRef())
                check(item, type->expectRef<c10::ListType>().getElementType(), name);
        else if (value.isGenericDict())
            for (const auto& entry : value.toGenericDict()) {
                check(entry.key(), type->expectRef<c10::DictType>().getKeyType(), name);
                check(entry.value(), type->expectRef<c10::DictType>().getValueType(), name);
            }
        else if (value.isTuple())
            for (size_t i = 0; i < value.toTupleRef().elements().size(); i++)
                check(value.toTupleRef().elements()[i], type->containedTypes().at(i), name);
    }

    unordered_set<const void*> seen;
    set<pair<const void*, const void*>> seenAs;
};

} // namespace

void TimewarpPlugin::checkAttributes(const torch::jit::Module& module) {
    AttributeWalk().check(module._ivalue(), module.type(), "the module");
}
