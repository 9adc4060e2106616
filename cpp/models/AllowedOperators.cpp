#include "AllowedOperators.h"
#include <set>
#include <sstream>

using namespace std;

/**
 * Functions of torch's public interface that compute from their arguments alone and check them.  An
 * underscore after a name, as in relu_, is the same function in place.
 */
static const char* const TENSOR_OPERATORS = R"(
    add sub rsub mul multiply div divide true_divide floor_divide floordiv remainder fmod neg negative abs
    absolute square pow float_power sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p logaddexp
    logaddexp2 logsumexp logcumsumexp sin cos tan asin acos atan atan2 arcsin arccos arctan arctan2 sinh cosh
    tanh asinh acosh atanh hypot floor ceil round trunc frac sign sgn signbit copysign maximum minimum fmax
    fmin clamp clamp_min clamp_max clip erf erfc erfinv lgamma digamma polygamma sigmoid logit sinc heaviside
    deg2rad rad2deg nan_to_num lerp addcmul addcdiv xlogy real imag angle conj complex polar view_as_real
    view_as_complex resolve_conj
    special_ndtr special_ndtri special_log_ndtr special_erf special_erfc special_erfcx special_erfinv
    special_expit special_logit special_xlogy special_xlog1py special_i0 special_i0e special_i1 special_i1e
    special_gammaln special_digamma special_psi special_polygamma special_softmax special_log_softmax
    special_logsumexp special_expm1 special_log1p special_exp2 special_round special_sinc special_entr

    eq ne lt le gt ge greater greater_equal less less_equal not_equal equal isclose allclose isfinite isinf
    isnan isposinf isneginf logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not
    bitwise_xor bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__ __lshift__ __rshift__ all any
    where masked_fill masked_scatter masked_select

    sum mean prod std var std_mean var_mean amax amin aminmax max min argmax argmin norm cumsum cumprod cummax
    cummin diff trapezoid trapz cumulative_trapezoid median nanmedian nansum nanmean quantile sort argsort msort
    topk kthvalue searchsorted bucketize bincount count_nonzero nonzero

    matmul mm bmm mv dot inner outer ger vdot einsum tensordot addmm addmv addbmm baddbmm addr kron linear
    bilinear cross cdist pairwise_distance cosine_similarity trace diag diagonal diagflat diag_embed tril triu
    tril_indices triu_indices det logdet slogdet inverse cholesky cholesky_solve cholesky_inverse qr svd
    triangular_solve matrix_exp matrix_power pinverse linalg_cross linalg_norm linalg_vector_norm
    linalg_matrix_norm linalg_det linalg_slogdet linalg_inv linalg_inv_ex linalg_solve linalg_solve_ex
    linalg_solve_triangular linalg_cholesky linalg_cholesky_ex linalg_qr linalg_eigh linalg_eigvalsh linalg_svd
    linalg_svdvals linalg_lu linalg_lu_factor linalg_matrix_exp linalg_matrix_power linalg_pinv
    linalg_lstsq linalg_multi_dot linalg_diagonal linalg_vecdot

    relu relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardsigmoid hardswish log_sigmoid softplus
    softmax log_softmax threshold prelu glu layer_norm group_norm batch_norm instance_norm rms_norm dropout
    embedding one_hot conv1d conv2d conv3d avg_pool1d max_pool1d adaptive_avg_pool1d pad constant_pad_nd
    scaled_dot_product_attention
    fft_fft fft_ifft fft_rfft fft_irfft fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftfreq fft_rfftfreq

    size numel dim stride view reshape flatten unflatten ravel squeeze unsqueeze expand expand_as broadcast_to
    broadcast_tensors repeat repeat_interleave tile permute transpose t movedim moveaxis swapaxes swapdims roll
    flip fliplr flipud rot90 cat concat concatenate stack hstack vstack dstack column_stack split
    split_with_sizes tensor_split hsplit vsplit chunk unbind select slice narrow index index_select index_put
    index_add index_copy index_fill gather scatter scatter_add scatter_reduce take take_along_dim contiguous
    clone detach copy view_as reshape_as unfold meshgrid cartesian_prod combinations block_diag atleast_1d
    atleast_2d atleast_3d to type_as cpu double float lift_fresh fill zero is_floating_point is_complex

    zeros ones full empty arange linspace logspace eye tensor scalar_tensor as_tensor zeros_like ones_like
    full_like empty_like new_zeros new_ones new_full new_empty vander
)";

/**
 * The same for numbers, texts, lists and dictionaries.
 */
static const char* const LANGUAGE_OPERATORS = R"(
    __getitem__ __contains__ __not__ __is__ __isnot__ __derive_index __range_length len append extend insert pop
    clear reverse remove count list dict keys values items get update _set_item delete
    Bool Int Float Complex BoolImplicit IntImplicit FloatImplicit ScalarImplicit item bool int
    mathremainder degrees radians gcd factorial fabs modf frexp ldexp gamma str format device warn
)";

/**
 * The interpreter's own: constants, control flow, lists and tuples, reading attributes, calls of functions of
 * the file itself.  There is no prim::SetAttr: a model that changed itself would give other proposals from
 * the same noise.
 */
static const char* const INTERPRETER_OPERATORS = R"(
    Constant GetAttr If Loop ListConstruct ListUnpack TupleConstruct TupleUnpack TupleIndex TupleSlice
    DictConstruct NumToTensor RaiseException Uninitialized unchecked_cast unchecked_unwrap_optional isinstance
    CallMethod CallFunction device dtype layout type is_cuda is_cpu ndim requires_grad shape itemsize min max abs
    rangelist tolist EnumName EnumValue
)";

static set<string> names(const string& space, initializer_list<const char*> lists) {
    set<string> result;
    for (const char* list : lists) {
        istringstream words(list);
        for (string word; words >> word;)
            result.insert(space + word);
    }
    return result;
}

bool TimewarpPlugin::isAllowedOperator(const string& name) {
    static const set<string> ofTorch = names("aten::", {TENSOR_OPERATORS, LANGUAGE_OPERATORS});
    static const set<string> ofInterpreter = names("prim::", {INTERPRETER_OPERATORS});
    if (ofTorch.count(name) || ofInterpreter.count(name))
        return true;
    bool inPlace = name.size() > 7 && name.back() == '_' && name[name.size() - 2] != '_';
    return inPlace && ofTorch.count(name.substr(0, name.size() - 1));
}
