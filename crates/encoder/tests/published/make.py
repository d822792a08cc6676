"""Makes small models of published architectures with random weights, in folders laid out as they are
published, and what the libraries that define them make of a few pictures and texts.

    pip install torch==2.11.0 open_clip_torch==3.3.0 timm transformers==4.57.1 optimum-onnx==0.1.0 \
        onnx onnxruntime tokenizers sentencepiece
    python make.py [NAME ...]

Each folder holds what a published one holds, and expected.json:
    images   of each file in pictures/ the embedding, unit length
    texts    of the first TEXTS texts of texts.json the embedding, unit length
    ids      of all texts the token ids, filled up as the library does it
    convert  options that `pgclip-encoder convert` is given
Immich's layout is written as its exporter does it, by torch.onnx.export of open_clip's model with one
item; optimum's by optimum's own exporter.
"""

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy
import onnx
import open_clip
import timm
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.functional import normalize

warnings.simplefilter("ignore")
HERE = Path(__file__).parent
TEXTS = 24
WIDTH = 32
VOCABULARY = 600
CLIP_STATS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}

SUBJECTS = {
    "Latin": ["a red car", "Ein grüner Wagen", "l'été à la plage", "El niño pequeño", "Çok güzel bir kedi"],
    "Cyrillic": ["красная машина", "Собака на снегу", "синій автобус", "мъж с куче", "дете у парку"],
    "Greek": ["κόκκινο αυτοκίνητο", "Η γάτα", "ένα παλιό σπίτι", "θάλασσα", "δύο άνθρωποι"],
    "Arabic": ["سيارة حمراء", "قطة سوداء", "رجل يقرأ", "ماشین سفید", "شہر کی سڑک"],
    "Hebrew": ["מכונית אדומה", "כלב בשלג", "ילדה בים", "שני אנשים", "בית ישן"],
    "Devanagari": ["लाल गाड़ी", "काली बिल्ली", "बच्चा खेल रहा है", "समुद्र तट", "दो लोग"],
    "Thai": ["รถสีแดง", "แมวดำ", "เด็กเล่นน้ำ", "ทะเล", "คนสองคน"],
    "Han": ["红色汽车", "一只黑猫", "下雨的街道", "兩個人", "海邊的房子"],
    "Japanese": ["赤い車", "黒いネコ", "雨の通り", "ふたりのひと", "カメラ"],
    "Hangul": ["빨간 자동차", "검은 고양이", "비 오는 거리", "두 사람", "바닷가 집"],
    "Georgian": ["წითელი მანქანა", "შავი კატა", "ზღვა", "ორი ადამიანი", "ძველი სახლი"],
    "Tamil": ["சிவப்பு கார்", "கருப்பு பூனை", "கடல்", "இரண்டு பேர்", "பழைய வீடு"],
}
FORMS = ["{}", "  {} — 2024!", "{}, {}", "A PHOTO of ({}), no. 7_b", "{} &amp; <b>{}</b>\t🚗 ﬁn. " + "x" * 30]


def texts():
    """300 texts in twelve scripts: with capitals, digits, punctuation, white space and symbols."""
    of = lambda subjects: [form.format(s, s) for form in FORMS for s in subjects]
    scripts = [of(subjects) for subjects in SUBJECTS.values()]
    # The scripts in turn, so that the first ones are of all kinds.
    mixed = [text for row in zip(*scripts) for text in row]
    assert len(mixed) == len(set(mixed)) == 300
    return mixed


ALL = texts()


def pictures():
    """JPEG and PNG of several shapes; one lies on its side and says so."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    random = numpy.random.default_rng(7)
    for name, (width, height) in {"wide.jpg": (96, 64), "tall.jpg": (50, 90), "square.png": (64, 64)}.items():
        coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), numpy.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / name)
    exif = Image.Exif()
    exif[274] = 6
    Image.open(folder / "wide.jpg").save(folder / "turned.jpg", exif=exif)


def shake(model, seed):
    """Moves vectors away from ones and zeros, and spreads matrices, so that each weight counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ("logit_scale", "logit_bias"):
                parameter.fill_(3.7 if name == "logit_scale" else -4.5)
            elif parameter.ndim <= 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                spread = parameter[0].numel() ** -0.5
                if any(part in name for part in ("in_proj", "q_proj", "k_proj", "query", "key", "qkv")):
                    spread *= 2  # attention that tells tokens apart
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return model.eval()


# Tokenisers, trained on the texts themselves.

def unigram(vocabulary=VOCABULARY):
    """SentencePiece's, as XLM-R has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, unk_token="<unk>", special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.train_from_iterator(ALL * 3, trainer)
    return tokenizer


def marked(tokenizer, before, behind):
    parts = [before, "$A", behind]
    marks = [mark for mark in (before, behind) if mark]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(part for part in parts if part),
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in marks])
    return tokenizer


def xlm_roberta(length=77):
    tokenizer = marked(unigram(), "<s>", "</s>")
    return transformers.XLMRobertaTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_max_length=length)


def gemma(lower=True):
    """Byte fallback, spaces as ▁, no mark before: SigLIP 2's."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.ByteFallback()
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=specials + [f"<0x{n:02X}>" for n in range(256)], limit_alphabet=120)
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in ALL], trainer)
    marked(tokenizer, "<bos>", "")
    return transformers.GemmaTokenizerFast(
        tokenizer_object=tokenizer, add_bos_token=False, add_eos_token=True, do_lower_case=lower, bos_token="<bos>",
        eos_token="<eos>", unk_token="<unk>", pad_token="<pad>", padding_side="right",
        model_input_names=["input_ids"], model_max_length=64)


def clip_like(length=77):
    """CLIP's byte-level BPE with another, small vocabulary."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(ALL, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>")),
        ("<|startoftext|>", tokenizer.token_to_id("<|startoftext|>")), trim_offsets=False, add_prefix_space=False)
    return transformers.CLIPTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
        unk_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=length)


def word_piece(lower):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(ALL, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=specials))
    marked(tokenizer, "[CLS]", "[SEP]")
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lower, model_max_length=77)


def nllb():
    tokenizer = unigram()
    codes = ["eng_Latn", "deu_Latn", "rus_Cyrl"]
    tokenizer.add_special_tokens(codes)
    marked(tokenizer, "eng_Latn", "</s>")
    return transformers.NllbTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", additional_special_tokens=codes, src_lang="eng_Latn")


# What is expected.

def expect(folder, image, text, ids, prepare, convert=()):
    """Embeddings of the pictures by `image`, of texts by `text`, and all token ids."""
    found = {"images": {}, "texts": [], "ids": ids, "convert": list(convert)}
    for path in sorted((HERE / "pictures").iterdir()):
        with torch.no_grad():
            embedding = image(prepare(Image.open(path)))
        found["images"][path.name] = [round(x, 7) for x in normalize(embedding.float(), dim=-1)[0].tolist()]
    with torch.no_grad():
        for at in range(TEXTS):
            found["texts"].append([round(x, 7) for x in normalize(text(at).float(), dim=-1)[0].tolist()])
    matrix = torch.tensor(found["texts"])
    similar = (matrix @ matrix.T).fill_diagonal_(1)
    print(f"{folder.name}: texts {similar.min():.3f} to {similar.median():.3f} alike,",
          f"{sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) // 1000} kB")
    (folder / "expected.json").write_text(json.dumps(found, separators=(",", ":"), ensure_ascii=False) + "\n")


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def to_onnx(model, forward, arguments, path, inputs, dynamo=False):
    """As Immich's exporter does it."""
    path.parent.mkdir(exist_ok=True)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    model.forward = forward
    torch.onnx.export(model, arguments, path.as_posix(), input_names=inputs, output_names=["embedding"],
                      opset_version=19, dynamo=dynamo)


def immich(name, model, config, preprocess, tokenizer, tokenize, length, convert=(), dynamo=False, u8=False):
    """A folder in Immich's layout of an open_clip model. `tokenize` gives ids [N, length]."""
    folder = fresh(name)
    size = config["vision_cfg"]["image_size"]
    (folder / "visual").mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    cfg = {"size": [size, size], "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
           **CLIP_STATS, **preprocess}
    (folder / "visual/preprocess_cfg.json").write_text(json.dumps(cfg))
    tokenizer.save_pretrained(folder / "textual")
    prepare = image_transform_v2(PreprocessCfg(**cfg), is_train=False)
    ids = tokenize(ALL)
    images = {p: prepare(Image.open(p))[None] for p in sorted((HERE / "pictures").iterdir())}
    expect(folder, lambda pixels: model.encode_image(pixels[None]),
           lambda at: model.encode_text(ids[at:at + 1]), ids.tolist(), prepare, ["--exif-orientation", "off", *convert])
    normed = lambda image: model.encode_image(image, normalize=True)
    if u8:
        mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        bytes_in = lambda image: normed((image.permute(0, 3, 1, 2).float() / 255 - mean) / std)
        to_onnx(model, bytes_in, (torch.zeros(1, size, size, 3, dtype=torch.uint8),),
                folder / "visual/model.onnx", ["image"], dynamo)
    else:
        to_onnx(model, normed, (torch.randn(1, 3, size, size),), folder / "visual/model.onnx", ["image"], dynamo)
    to_onnx(model, lambda text: model.encode_text(text, normalize=True),
            (torch.ones(1, length, dtype=torch.int32),), folder / "textual/model.onnx", ["text"], dynamo)
    return folder


def small_clip(vision=None, text=None, **more):
    vision = {"image_size": 32, "layers": 2, "width": WIDTH, "head_width": 16, "patch_size": 16, **(vision or {})}
    text = {"context_length": 77, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 2, "layers": 2, **(text or {})}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **more}


def open_clip_ids(tokenizer, length, clean):
    """open_clip's HFTokenizer on a tokeniser that is at hand."""
    wrapped = object.__new__(open_clip.tokenizer.HFTokenizer)
    wrapped.tokenizer, wrapped.context_length, wrapped.tokenizer_mode = tokenizer, length, ""
    wrapped.clean_fn, wrapped.strip_sep_token = open_clip.tokenizer.get_clean_fn(clean), False
    return wrapped


def quickgelu():
    config = small_clip(quick_gelu=True)
    model = shake(open_clip.CLIP(**config), 1)
    tokenizer = clip_like()
    immich("clip_quickgelu", model, config, {}, tokenizer, open_clip_ids(tokenizer, 77, "lower"), 77)


def laion():
    """LAION's and DataComp's ViTs: GELU."""
    config = small_clip()
    model = shake(open_clip.CLIP(**config), 8)
    tokenizer = clip_like()
    immich("laion", model, config, {}, tokenizer, open_clip_ids(tokenizer, 77, "lower"), 77)


def dfn():
    """Apple's DFN: pictures are squashed to a square."""
    config = small_clip(vision={"image_size": 48}, quick_gelu=True)
    model = shake(open_clip.CLIP(**config), 9)
    tokenizer = clip_like()
    immich("dfn", model, config, {"resize_mode": "squash"}, tokenizer, open_clip_ids(tokenizer, 77, "lower"), 77)


def timm_clip(name, seed, trunk, vision, preprocess=None, text=None, u8=False, dynamo=False):
    """open_clip's model with a small trunk of timm's in place of the published one."""
    config = small_clip(text=text)
    tower = config["vision_cfg"]
    model = open_clip.CustomTextCLIP(**config)
    model.visual = open_clip.timm_model.TimmModel(
        "vit_tiny_patch16_224", embed_dim=24, image_size=tower["image_size"], pool="avg", proj="linear")
    model.visual.trunk = trunk(tower["image_size"])
    model.visual.head = torch.nn.Sequential()
    features = model.visual.trunk.num_features
    model.visual.head.append(torch.nn.Linear(features, 24, bias=False))
    config["vision_cfg"] = {"image_size": tower["image_size"], "timm_model_name": vision, "timm_pool": "avg"}
    shake(model, seed)
    tokenizer = clip_like()
    immich(name, model, config, preprocess or {}, tokenizer, open_clip_ids(tokenizer, 77, "lower"), 77,
           u8=u8, dynamo=dynamo)


def resnet():
    config = small_clip(vision={"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 16})
    model = shake(open_clip.CLIP(**config), 2)
    tokenizer = clip_like()
    immich("resnet", model, config, {}, tokenizer, open_clip_ids(tokenizer, 77, "lower"), 77)


def coca():
    config = small_clip()
    text = {**config["text_cfg"], "embed_cls": True, "context_length": 16, "output_tokens": True, "pad_id": 0}
    vision = {**config["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    model = open_clip.coca_model.CoCa(
        24, multimodal_cfg={"context_length": 16, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 2, "layers": 1},
        text_cfg=text, vision_cfg=vision)
    shake(model, 3)
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    tokenizer = clip_like(16)
    immich("coca", model, config, {}, tokenizer, open_clip_ids(tokenizer, 16, "lower"), 16)


def mobileclip():
    from timm.models.fastvit import FastVit
    trunk = lambda size: FastVit(layers=(1, 1, 1, 1), token_mixers=("repmixer",) * 3 + ("attention",),
                                 embed_dims=(16, 16, 32, 32), num_classes=0, global_pool="avg")
    timm_clip("mobileclip", 4, trunk, "fastvit_mci0",
              {"mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear"}, {"no_causal_mask": True})


def mobileclip2():
    """MobileCLIP 2's S3 and S4: a FastViT of five stages with norms in its stem and attention in two stages."""
    from functools import partial
    from timm.layers import LayerNorm2d
    from timm.models.fastvit import FastVit, RepConditionalPosEnc
    trunk = lambda size: FastVit(
        layers=(1, 1, 1, 1, 1), embed_dims=(8, 16, 16, 32, 32), mlp_ratios=(2, 2, 2, 2, 2), num_classes=0,
        global_pool="avg", se_downsamples=(False,) * 5, downsamples=(False,) + (True,) * 4,
        pos_embs=(None,) * 3 + (partial(RepConditionalPosEnc, spatial_shape=(7, 7)),) * 2,
        token_mixers=("repmixer",) * 3 + ("attention",) * 2, lkc_use_act=True, norm_layer=partial(LayerNorm2d, eps=1e-5),
        stem_use_scale_branch=False)
    timm_clip("mobileclip2", 10, trunk, "fastvit_mci3",
              {"mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear"}, {"no_causal_mask": True})


def convnext():
    from timm.models.convnext import ConvNeXt
    timm_clip("convnext", 5, lambda size: ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=0),
              "convnext_base", u8=True)


def eva02():
    from timm.models.eva import Eva
    trunk = lambda size: Eva(img_size=size, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=2, qkv_fused=False,
                             mlp_ratio=2, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True,
                             ref_feat_shape=(2, 2), num_classes=0, global_pool="token")
    timm_clip("eva02", 6, trunk, "eva02_base_patch16_clip_224")


def pe_core():
    from timm.models.eva import Eva
    trunk = lambda size: Eva(img_size=size, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=2, mlp_ratio=2,
                             global_pool="map", attn_type="rope", use_pre_transformer_norm=True, use_rot_pos_emb=True,
                             ref_feat_shape=(2, 2), rope_grid_offset=1., rope_grid_indexing="xy", attn_pool_num_heads=2,
                             attn_pool_mlp_ratio=4., num_classes=0)
    timm_clip("pe_core", 7, trunk, "vit_pe_core_base_patch16_224",
              {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "resize_mode": "squash"})


def siglip_trunk(size):
    from timm.models.vision_transformer import VisionTransformer
    return VisionTransformer(img_size=size, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=2, mlp_ratio=2,
                             class_token=False, global_pool="map", num_classes=0)


def siglip():
    """open_clip's: the map pooling is the projection, texts are not causal and end with their last token."""
    text = {"context_length": 64, "vocab_size": VOCABULARY, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
            "tokenizer_kwargs": {"clean": "canonicalize"}, "width": WIDTH, "heads": 2, "layers": 2,
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
    vision = {"image_size": 32, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}
    config = {"embed_dim": WIDTH, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    plain = {key: value for key, value in text.items() if not key.startswith(("hf_", "tokenizer_"))}
    model = open_clip.CustomTextCLIP(WIDTH, {"image_size": 32, "width": WIDTH, "layers": 1, "head_width": 16}, plain,
                                     init_logit_bias=-10)
    model.visual = open_clip.timm_model.TimmModel(
        "vit_tiny_patch16_224", embed_dim=WIDTH, image_size=32, pool="avg", proj="linear")
    model.visual.trunk, model.visual.head = siglip_trunk(32), torch.nn.Sequential()
    shake(model, 8)
    tokenizer = marked_t5()
    squash = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    immich("siglip", model, config, squash, tokenizer, open_clip_ids(tokenizer, 64, "canonicalize"), 64,
           ["--logit-scale", "40.4", "--logit-bias", "-4.5"])


def marked_t5():
    tokenizer = marked(unigram(), "", "</s>")
    return transformers.T5TokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="</s>", extra_ids=0,
        model_max_length=64)


def hf_text(name, seed, hf_config, pooler, tokenizer, length, make_ids=None, convert=()):
    """open_clip with a text tower of transformers'."""
    with tempfile.TemporaryDirectory() as place:
        hf_config.save_pretrained(place)
        config = small_clip()
        text = {"hf_model_name": place, "hf_model_pretrained": False, "hf_pooler_type": pooler,
                "hf_proj_type": "linear", "context_length": length}
        model = open_clip.CustomTextCLIP(24, config["vision_cfg"], text)
    shake(model, seed)
    config["text_cfg"] = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_pooler_type": pooler}
    if length != 77:
        config["text_cfg"]["context_length"] = length
    immich(name, model, config, {}, tokenizer, make_ids or open_clip_ids(tokenizer, length, "whitespace"), length, convert)


def xlm_r():
    config = transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=90, pad_token_id=1)
    hf_text("xlm_roberta", 9, config, "mean_pooler", xlm_roberta(), 77)


def clipa():
    """CLIPA: pictures pooled by the mean of their patches, BERT's tokeniser with its separator blanked out."""
    text = {"context_length": 32, "pool_type": "last", "no_causal_mask": True}
    config = small_clip({"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}, text)
    model = shake(open_clip.CLIP(**config), 12)
    config["text_cfg"] |= {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
    tokenizer = word_piece(True)
    encode = open_clip_ids(tokenizer, 32, "whitespace")
    encode.strip_sep_token = True
    immich("clipa", model, config, {}, tokenizer, encode, 32)


def metaclip2():
    """MetaCLIP 2: many languages, pooled at the first end of a text."""
    text = {"context_length": 64, "pool_type": "eos", "eos_id": 2}
    config = small_clip(text=text)
    model = shake(open_clip.CLIP(**config), 13)
    config["text_cfg"] |= {"hf_tokenizer_name": "facebook/xlm-v-base", "tokenizer_kwargs": {"clean": "canonicalize"}}
    tokenizer = xlm_roberta(64)
    immich("metaclip2", model, config, {}, tokenizer, open_clip_ids(tokenizer, 64, "canonicalize"), 64)


def nllb_clip():
    config = transformers.M2M100Config(
        vocab_size=VOCABULARY + 8, d_model=WIDTH, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=90, pad_token_id=1)
    tokenizer = nllb()
    def german(texts):
        # Not by open_clip's set_language, which transformers undoes at the next text.
        tokenizer.src_lang = "deu_Latn"
        return open_clip_ids(tokenizer, 77, "whitespace")(texts)
    hf_text("nllb", 10, config, "cls_pooler", tokenizer, 77, german, ["--language", "deu_Latn"])
    tokenizer.src_lang = "eng_Latn"
    tokenizer.save_pretrained(HERE / "nllb/textual")


def m_clip():
    """M-CLIP: a text tower of transformers' with a mask, and the image tower of OpenAI's."""
    config = small_clip(quick_gelu=True)
    model = shake(open_clip.CLIP(**config), 11)
    bert = shake(transformers.BertModel(transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=80), add_pooling_layer=False), 12)
    last = shake(torch.nn.Linear(WIDTH, 24), 13)
    tokenizer = word_piece(lower=False)
    encoded = tokenizer(ALL, padding="max_length", truncation=True, max_length=77, return_tensors="pt")

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert, self.last = bert, last

        def forward(self, input_ids, attention_mask):
            states = self.bert(input_ids, attention_mask)[0]
            mean = (states * attention_mask.unsqueeze(2)).sum(1) / attention_mask.sum(1)[:, None]
            return normalize(self.last(mean), dim=-1)

    text = Text()
    for parameter in text.parameters():
        parameter.requires_grad_(False)
    model.encode_text = lambda ids, **_: text(ids, (ids != tokenizer.pad_token_id).int())
    config["text_cfg"]["vocab_size"] = 49408  # of the CLIP that the image tower is from
    folder = immich("m_clip", model, config, {}, tokenizer, lambda texts: encoded.input_ids, 77)
    (folder / "textual/model.onnx").unlink()
    ones = torch.ones(1, 77, dtype=torch.int32)
    to_onnx(text, text.forward, (ones, ones), folder / "textual/model.onnx", ["input_ids", "attention_mask"])


# Optimum's layout.

def optimum(name, seed, model, processor, tokenizer, task, tower=None, fixed_length=False, convert=()):
    from optimum.exporters.onnx import onnx_export_from_model
    shake(model, seed)
    folder = fresh(name)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model.save_pretrained(place)
        onnx_export_from_model(model, place / "onnx", task=task, do_validation=False, opset=17)
        (folder / "onnx").mkdir()
        for path in (place / "onnx").glob("*.onnx"):
            shutil.copy(path, folder / "onnx" / path.name)
        shutil.copy(place / "config.json", folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    lower = name == "siglip2"
    prepared = [text.lower() for text in ALL] if lower else ALL
    padding = "max_length" if fixed_length else True
    encode = lambda texts: tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    ids = encode(prepared)["input_ids"].tolist()
    if not fixed_length:
        ids = [tokenizer([text], truncation=True)["input_ids"][0] for text in prepared]
    def text_of(at):
        found = model.get_text_features(**{k: v for k, v in encode(prepared[at:at + 1]).items() if k != "token_type_ids"})
        return found
    expect(folder, lambda pixels: model.get_image_features(pixel_values=pixels), text_of, ids,
           lambda image: processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"],
           ["--exif-orientation", "off", *convert])
    return folder


def split(folder):
    """transformers.js's two graphs of a whole one, by the same exporter's towers."""
    whole = onnx.load(folder / "onnx/model.onnx")
    for file, inputs, output in (("vision_model", ["pixel_values"], "image_embeds"),
                                 ("text_model", ["input_ids", "attention_mask"], "text_embeds")):
        extractor = onnx.utils.Extractor(whole)
        names = [i.name for i in whole.graph.input if i.name in inputs]
        part = extractor.extract_model(names, [output])
        used = {name for node in part.graph.node for name in node.input}
        for value in [v for v in part.graph.input if v.name not in used]:
            part.graph.input.remove(value)
        onnx.save(part, folder / f"onnx/{file}.onnx")
    (folder / "onnx/model.onnx").unlink()


def clip_optimum():
    tokenizer = clip_like()
    config = transformers.CLIPConfig(
        text_config={"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "vocab_size": VOCABULARY, "hidden_act": "gelu", "eos_token_id": tokenizer.eos_token_id,
                     "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id},
        vision_config={"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 16}, projection_dim=20)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    folder = optimum("clip_optimum", 20, transformers.CLIPModel(config), processor, tokenizer,
                     "zero-shot-image-classification")
    split(folder)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    for tower in ("vision_model", "text_model"):
        quantize_dynamic(folder / f"onnx/{tower}.onnx", folder / f"onnx/{tower}_quantized.onnx",
                         weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])


def siglip2():
    config = transformers.SiglipConfig(
        text_config={"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "vocab_size": VOCABULARY, "max_position_embeddings": 64, "projection_size": WIDTH},
        vision_config={"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 16})
    processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    optimum("siglip2", 21, transformers.SiglipModel(config), processor, gemma(), "zero-shot-image-classification",
            fixed_length=True)


def jina():
    """One graph for both towers with outputs of several lengths, of which a part may be taken."""
    config = transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=400, pad_token_id=1)
    text = shake(transformers.XLMRobertaModel(config, add_pooling_layer=False), 31)
    vision = shake(open_clip.CLIP(**small_clip()).visual, 32)
    vision.proj = torch.nn.Parameter(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1)) / 6)

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.text, self.vision = text, vision

        def encode_text(self, input_ids):
            mask = (input_ids != 1).long()
            states = self.text(input_ids, mask)[0]
            return (states * mask.unsqueeze(2)).sum(1) / mask.sum(1)[:, None]

        def forward(self, input_ids, pixel_values):
            texts, images = self.encode_text(input_ids), self.vision(pixel_values)
            return texts, images, normalize(texts, dim=-1), normalize(images, dim=-1)

    both = Both().eval()
    folder = fresh("jina_like")
    (folder / "onnx").mkdir()
    torch.backends.mha.set_fastpath_enabled(False)
    outputs = ["text_embeddings", "image_embeddings", "l2norm_text_embeddings", "l2norm_image_embeddings"]
    axes = {name: {0: name.split("_")[0] + "_batch"} for name in ["input_ids", "pixel_values", *outputs]}
    axes["input_ids"][1] = "sequence_length"
    torch.onnx.export(both, (torch.ones(2, 9, dtype=torch.long), torch.randn(3, 3, 32, 32)),
                      folder / "onnx/model.onnx", input_names=["input_ids", "pixel_values"], output_names=outputs,
                      dynamic_axes=axes, opset_version=17, dynamo=False)
    # Weights in a file beside the graph, as the published one has them.
    whole = onnx.load(folder / "onnx/model.onnx")
    (folder / "onnx/model.onnx").unlink()
    onnx.save(whole, folder / "onnx/model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=512)
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "jina_clip", "projection_dim": WIDTH, "text_config": {"embed_dim": WIDTH},
         "vision_config": {"embed_dim": WIDTH, "image_size": 32}}))
    stats = {key: list(value) for key, value in CLIP_STATS.items()}
    (folder / "preprocessor_config.json").write_text(json.dumps(
        {"auto_map": {"AutoImageProcessor": "processing_clip.JinaCLIPImageProcessor"}, "fill_color": 0,
         "image_processor_type": "JinaCLIPImageProcessor", "interpolation": "bicubic", **stats,
         "processor_class": "JinaCLIPProcessor", "resize_mode": "shortest", "size": 32}))
    tokenizer = xlm_roberta(300)
    tokenizer.save_pretrained(folder)
    ids = [tokenizer([t], truncation=True)["input_ids"][0] for t in ALL]
    cut = 16
    prepare = image_transform_v2(PreprocessCfg(size=32, **CLIP_STATS), is_train=False)
    expect(folder, lambda pixels: vision(pixels[None])[:, :cut],
           lambda at: both.encode_text(torch.tensor([ids[at]]))[:, :cut], ids, prepare,
           ["--exif-orientation", "off", "--dimensions", str(cut)])


# Weights.

def siglip_weights():
    """open_clip's SigLIP 2 as timm's repositories have it: description, weights, tokeniser."""
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer
    text = {"context_length": 64, "vocab_size": VOCABULARY, "hf_tokenizer_name": "timm/ViT-B-32-SigLIP2-256",
            "tokenizer_kwargs": {"clean": "canonicalize"}, "width": WIDTH, "heads": 2, "layers": 2,
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"}}
    width = 48
    vision = {"image_size": 64, "timm_model_name": "vit_base_patch32_siglip_256", "timm_model_pretrained": False,
              "timm_pool": "map", "timm_proj": "none"}
    plain = {key: value for key, value in text.items() if not key.startswith(("hf_", "tokenizer_"))}
    model = open_clip.CustomTextCLIP(
        width, {"image_size": 32, "width": WIDTH, "layers": 1, "head_width": 16}, plain, init_logit_bias=-10)
    model.visual = open_clip.timm_model.TimmModel(
        "vit_tiny_patch16_224", embed_dim=width, image_size=64, pool="avg", proj="linear")
    model.visual.head = torch.nn.Sequential()
    model.visual.trunk = VisionTransformer(
        img_size=64, patch_size=32, embed_dim=width, depth=2, num_heads=12, mlp_ratio=2, class_token=False,
        global_pool="map", num_classes=0, act_layer="gelu_tanh")
    shake(model, 40)
    folder = fresh("siglip_weights")
    cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"embed_dim": width, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": cfg}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    tokenizer = gemma()
    tokenizer.save_pretrained(folder)
    ids = open_clip_ids(tokenizer, 64, "canonicalize")(ALL)
    prepare = image_transform_v2(PreprocessCfg(size=64, **cfg), is_train=False)
    expect(folder, lambda pixels: model.encode_image(pixels[None]), lambda at: model.encode_text(ids[at:at + 1]),
           ids.tolist(), prepare, ["--exif-orientation", "off"])


def siglip_transformers():
    """transformers' SiglipModel, with SigLIP's own tokeniser."""
    folder = fresh("siglip_transformers")
    tower = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={**tower, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "projection_size": WIDTH},
        vision_config={**tower, "image_size": 32, "patch_size": 16})
    model = shake(transformers.SiglipModel(config), 41)
    model.save_pretrained(folder)
    processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    tokenizer = gemma()
    tokenizer.save_pretrained(folder)
    texts = [text.lower() for text in ALL]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    expect(folder, lambda pixels: model.get_image_features(pixel_values=pixels),
           lambda at: model.get_text_features(input_ids=ids[at:at + 1]), ids.tolist(),
           lambda image: processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"],
           ["--exif-orientation", "off"])


def faults():
    """Graphs of a few nodes that take the place of a good one."""
    from onnx import TensorProto, helper, numpy_helper
    folder = fresh("faults")

    def save(name, nodes, values=(), inputs=None, outputs=None, domain=None):
        inputs = inputs or [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])]
        outputs = outputs or [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 24])]
        graph = helper.make_graph(nodes, name, inputs, outputs, list(values))
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / f"{name}.onnx")

    constant = lambda name, array: numpy_helper.from_array(numpy.asarray(array), name)
    mean = [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Reshape", ["mean", "shape"], ["one"])]
    shape = constant("shape", numpy.array([1, 1], numpy.int64))
    ones = numpy.ones((1, 24), numpy.float32)
    times = helper.make_node("Mul", ["one", "ones"], ["embedding"])
    save("custom", [helper.make_node("Fancy", ["image"], ["embedding"], domain="acme.ops")], domain="acme.ops")
    save("nan", [*mean, times], [shape, constant("ones", ones * numpy.nan)])
    text = [helper.make_tensor_value_info("text", TensorProto.INT32, [1, 77])]
    narrow = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 7])]
    save("narrow", [helper.make_node("Cast", ["text"], ["cast"], to=TensorProto.FLOAT),
                    helper.make_node("Slice", ["cast", "from", "to", "axis"], ["embedding"])],
         [constant(name, numpy.array([value], numpy.int64)) for name, value in (("from", 0), ("to", 7), ("axis", 1))],
         text, narrow)
    save("three", [*mean, times], [shape, constant("ones", ones)],
         [helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, 3, 32, 32])])
    for name, location in (("missing", "nowhere.bin"), ("outside", "../../secret.bin"), ("absolute", "/etc/passwd"),
                           ("link", "link.bin")):
        tensor = TensorProto(name="ones", data_type=TensorProto.FLOAT, dims=[1, 24],
                             data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", "0"), ("length", "96")):
            tensor.external_data.add(key=key, value=value)
        graph = helper.make_graph([*mean, times], name,
                                  [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
                                  [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 24])], [shape, tensor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


MADE = {function.__name__: function for function in (
    quickgelu, laion, dfn, resnet, coca, mobileclip, mobileclip2, convnext, eva02, pe_core, siglip, xlm_r, clipa, metaclip2, nllb_clip, m_clip, clip_optimum,
    siglip2, jina, siglip_weights, siglip_transformers, faults)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pictures()
    (HERE / "texts.json").write_text(json.dumps(ALL, ensure_ascii=False, indent=0) + "\n")
    for name in sys.argv[1:] or MADE:
        MADE[name]()
    for path in HERE.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
