"""Names that a model input may not have, because a layer beside it gets them.

Keras names a layer after its class, and no two parts of a model may be called the
same. They are written here so that a schema needs no Keras; a test compares them.
"""

import re

__all__ = ["is_reserved"]

_OURS = """
    average best_members calibrate category_embedding clamp clean_codes clean_numbers
    clean_text code_weights codes column_tokens concatenate core cross
    curve_probabilities decide_by_costs decide_by_threshold decide_label engine exact
    expand_dims fading_dropout finite_number fold forest front front_scale
    gaussian_likelihood get_item head impute interval_width kerastrain
    linear_batch_ensemble log_shares logit_of_two mean_of_members member_heads
    member_scale missing_indicator nearest ntk_dense number_tokens numbers numeric_core
    one_hot one_hot_codes parametric_activation parse_boolean pair_products parse_date
    parse_number pbld periodic_embedding piecewise_linear piecewise_linear_embedding
    place_classes prefix probabilities quantile_normal rare_code rbf_kernel robust_scale
    scale_probabilities self self_attention share_probabilities shared_dense signed_log
    small_one_hot smooth_clip table take_columns target_encoding text_vectors
    unstandardize weighted_mean
"""
_KERAS = """
    activation activity_regularization adaptive_average_pooling1d
    adaptive_average_pooling2d adaptive_average_pooling3d adaptive_max_pooling1d
    adaptive_max_pooling2d adaptive_max_pooling3d add additive_attention
    alpha_dropout attention aug_mix auto_contrast average average_pooling1d
    average_pooling2d average_pooling3d avg_pool1d avg_pool2d avg_pool3d
    batch_normalization bidirectional category_encoding center_crop concatenate
    contrast_limited_adaptive_histogram_equalization conv1d conv1d_transpose conv2d
    conv2d_transpose conv3d conv3d_transpose conv_lstm1d conv_lstm2d conv_lstm3d
    convolution1d convolution1d_transpose convolution2d convolution2d_transpose
    convolution3d convolution3d_transpose cropping1d cropping2d cropping3d cut_mix
    dense depthwise_conv1d depthwise_conv2d discretization dot dropout einsum_dense
    elu embedding equalization flatten flax_layer gaussian_dropout gaussian_noise
    global_average_pooling1d global_average_pooling2d global_average_pooling3d
    global_avg_pool1d global_avg_pool2d global_avg_pool3d global_max_pool1d
    global_max_pool2d global_max_pool3d global_max_pooling1d global_max_pooling2d
    global_max_pooling3d group_normalization group_query_attention gru gru_cell
    hashed_crossing hashing identity input_layer input_spec integer_lookup jax_layer
    lambda layer layer_normalization leaky_re_lu lstm lstm_cell masking
    max_num_bounding_boxes max_pool1d max_pool2d max_pool3d max_pooling1d
    max_pooling2d max_pooling3d maximum mel_spectrogram minimum mix_up
    multi_head_attention multiply normalization p_re_lu permute pipeline
    rand_augment random_brightness random_color_degeneration random_color_jitter
    random_contrast random_crop random_elastic_transform random_erasing random_flip
    random_gaussian_blur random_grayscale random_hue random_invert
    random_perspective random_posterization random_rotation random_saturation
    random_sharpness random_shear random_translation random_zoom re_lu repeat_vector
    rescaling reshape resizing reversible_embedding rms_normalization rnn
    separable_conv1d separable_conv2d separable_convolution1d
    separable_convolution2d simple_rnn simple_rnn_cell softmax solarization
    spatial_dropout1d spatial_dropout2d spatial_dropout3d spectral_normalization
    stacked_rnn_cells stft_spectrogram string_lookup subtract text_vectorization
    tfsm_layer time_distributed torch_module_wrapper unit_normalization
    up_sampling1d up_sampling2d up_sampling3d wrapper zero_padding1d zero_padding2d
    zero_padding3d
"""
_RESERVED = frozenset((_OURS + _KERAS).split())


def is_reserved(name: str) -> bool:
    """Whether `name`, with or without a number behind it, may be a layer's.

    >>> is_reserved("dense"), is_reserved("Dense_2"), is_reserved("density")
    (True, True, False)
    """
    return re.sub(r"_\d+$", "", name.lower()) in _RESERVED
