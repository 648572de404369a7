"""Words that people take for what occurs in a problem and its answer, by what the thing is.

The pools are large so that a name is copied from the prompt, or from what was written before, and not recalled.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TENSORS = _words("""
    x y z a b c u v w A B X Y inp other scale residual predictions targets pred target logits bias shift gain src
    data feat feats act hid emb tokens query key value left right lhs rhs first second base delta signal image img
    frame field state memory context source probe mat vec points sample samples score scores weights mixing update
    grad stream noise skip branch main aux ref guess truth goal label_map gold est outputs observed expected
    states inputs t q p m s e f g
""")
SIZES = _words("""
    n size length batch_size dim rows cols M N batch features hidden seq_len channels height width C H W K
    in_features out_features depth B bs num_rows num_cols D T L E S P Q R d_model d_in d_out n_in n_out in_dim
    out_dim hidden_size feature_dim n_tokens num_tokens steps lanes points side planes heads groups span extent
    count total_size input_size output_size num_features num_channels seq frames bins units width_in width_out
    n_samples examples inner outer nx ny
""")

# What an answer calls its own things: for each plain name, what else it may be called.
_LOCALS: Mapping[str, str] = {
    "pid": "program prog block_id tile_id p_id idx0 pid0 gid which blk_id",
    "row": "r_id row_id line i_row row_idx line_id pid_row rid slot seg",
    "cols": "col_idx lanes c_offs col_ids within inside columns col_range js offs_n",
    "offs": "idx ids o_idx positions places loc locs span_idx offset_ids ofs o",
    "offsets": "index flat_idx lin elem_ids element_ids idxs spots linear where_at lane_ids",
    "xindex": "xi xidx x_index xoff_index x_at gindex",
    "rindex": "ri ridx r_index r_at rr_index",
    "mask": "m keep valid ok in_bounds live within_n inb guard is_in msk bound",
    "xmask": "xm x_mask xvalid xkeep x_ok",
    "n": "numel n_total length_n elems size_n n_items n_el limit",
    "n_elements": "num_elements total_elements n_elem numel_total num_el elements_n count_n",
    "xnumel": "x_numel xsize xn xtotal",
    "n_cols": "ncols width_n row_len row_size num_columns line_len cols_n n_feat stride_row row_width",
    "rnumel": "r_numel rsize rn rtotal",
    "n_rows": "nrows num_lines rows_n n_lines row_count m_rows lines_n",
    "out": "o res dst y_out ret answer result_t made buf",
    "output": "outp out_t out_tensor dest final result_out out_buf produced",
    "BLOCK": "BLK BS TILE BLOCK_N CHUNK SPAN WIDTH BLOCK_W",
    "BLOCK_SIZE": "BLOCK_ELEMS TILE_SIZE CHUNK_SIZE BSIZE PER_BLOCK BLOCK_COLS LANES SIZE",
    "XBLOCK": "X_BLOCK XB XTILE XSIZE",
    "BLOCK_M": "BM TILE_M M_BLOCK BLK_M M_TILE",
    "BLOCK_K": "BK TILE_K K_BLOCK BLK_K K_TILE",
    "BLOCK_N": "BN TILE_N N_BLOCK BLK_N N_TILE",
    "M": "n_m size_m rows_m dim_m M_total",
    "N": "n_n size_c cols_w dim_n N_total",
    "K": "n_k size_k inner_k dim_k K_total depth_k",
    "acc": "accum accumulator running agg sums partial_acc tot store_acc",
    "grid": "g_dims launch_grid blocks n_programs grid_dims programs num_blocks",
    "weight": "wt gamma coef scale_w weight_t g_vec w_vec",
    "hidden": "mid inner_out product interm stage tmp_out mm_out between",
    "batch": "b_id bidx batch_id n_batch sample_id bz",
    "peak": "max_val biggest row_max top mx hi maxed",
    "low": "min_val smallest row_min mn least lo",
    "total": "sum_val row_sum summed denom whole s_total",
    "mean": "mu avg average centre_val mean_val",
    "var": "variance sigma_sq var_val spread v2",
    "rstd": "inv_std istd scale_inv rsigma inv_sigma",
    "rrms": "inv_rms irms rms_inv scale_rms",
    "norm": "length_val nrm magnitude size_val norm_val",
    "num": "expd exps numer ex e_val shifted_exp",
    "d": "diff dev centred gap dlt off_mean",
    "index": "best_idx arg winner at_idx found_idx",
    "result": "reduced outcome row_result val_out combined",
    "loss": "err cost penalty item_loss term loss_val",
    "label": "cls class_id lab true_cls tgt_idx",
    "picked": "chosen at_label true_logit selected hit",
    "partial": "parts chunks_sum per_block block_sums pieces",
    "n_blocks": "num_parts n_parts blocks_n n_chunks part_count",
    "rm": "offs_m row_offs m_idx im rows_at",
    "rn": "offs_c col_offs n_idx jn cols_at",
    "rk": "offs_k k_offs k_idx kk ks_at",
    "k": "k0 k_start kb k_at step_k",
    "r": "row_no line_no rr i_r step_r",
    "start": "begin first_col s0 col_start lo_col offset0 from_col",
    "carry": "prefix prev running_sum before_sum so_far",
    "col": "col_at c_idx jcol column c_at",
    "channel": "chan ch_id c_id ch_idx",
    "channels": "n_channels n_ch chans ch_n",
    "hw": "plane_size area spatial pixels hw_size",
    "plane": "plane_id image_id nc pl",
    "height": "h_in rows_in in_h h_size",
    "width": "w_in cols_in in_w w_size",
    "height_out": "h_out rows_out out_h oh_size",
    "width_out": "w_out cols_out out_w ow_size",
    "length": "len_in l_in in_len n_in_line",
    "length_out": "len_out l_out out_len n_out_line",
    "i": "di ki wi step_i",
    "j": "dj kj wj step_j",
    "ih": "h_pos y_at hi_at row_pos",
    "iw": "w_pos x_at wi_at col_pos",
    "pos": "p_at where_pos inpos at_pos",
    "at": "addr flat where_in place ofs_in",
    "val": "elem e_in cur piece item_v",
    "base": "origin offset_base start_at root corner",
    "tmp": "t tv reg buf_v",
    "in_ptr": "src_ptr inp_ptr arg_ptr load_ptr",
    "extra": "more add_in side_in ex_t",
}  # fmt: skip
LOCALS: Mapping[str, tuple[str, ...]] = {name: _words(words) for name, words in _LOCALS.items()}
# Of tensors as the generator calls them, in problem and answer.
PLAIN_TENSORS = TENSORS[: TENSORS.index("src")]
PLAIN_SIZES = SIZES[: SIZES.index("B")]
# Arguments of `__init__`, which an answer repeats.
ARGUMENTS = ("dim", "in_features", "out_features", "channels")
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "norm": ("ln", "layer_norm", "normalize", "norm1", "post_norm", "normer"),
    "linear": ("fc", "proj", "dense", "lin", "gemm", "project", "fc1", "head", "layer"),
    "pool": ("pooling", "downsample", "reduce", "pooler", "window"),
    "criterion": ("loss", "loss_fn", "objective", "cost", "loss_func"),
    "weight": ("gamma", "gain", "g", "coef", "scale", "wt"),
    "bias": ("beta", "shift", "offset", "b", "b0", "add_term"),
    "scale": ("alpha", "factor", "mult", "gains", "s"),
    "w": ("mul", "w0", "coeff", "vec_w", "kappa"),
    "b": ("add", "bb", "bias_vec", "tau", "c0"),
    "shift": ("offsets", "delta", "moved", "lift", "sh"),
    "gain": ("boost", "amp", "lam", "rho", "mags"),
}
VERBS = _words("""
    launch run call apply compute do exec invoke fused triton fast start perform eval forward op kernel make get
    wrap process solve calc drive dispatch submit go emit produce
""")
LONE_VERBS = _words("""
    launch run call apply compute execute invoke perform solve dispatch emit produce process launcher runner
    triton_forward
""")
OBJECTS = _words("""
    triton kernel op forward fused fn impl rows all gpu module layer step tensor block tiles batch pass inner core
    main program work job task model launch jit cuda grid wrapper custom body host device fwd entry
""")
KERNEL_FIRSTS = _words("""
    fused row block tile my custom main simple fast flat vector plane chain tri gpu inner one first stage compute
    apply inline merged packed lane segment full work core
""")
KERNEL_SECONDS = _words(
    "op map pass step fn rows tiles body part elements work chain stage block sweep calc act reduce"
)
KERNEL_ENDS = ("_kernel", "_kernel", "_kernel", "_fwd", "_triton", "_k", "_jit", "")
POINTERS = ("{}_ptr", "{}_ptr", "{}_ptr", "ptr_{}", "{}_p", "p_{}", "{}_pointer", "{}_addr")
