import csv
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from approx import ErrorMetrics, Multiplier, doubts, error_metrics, import_multipliers
from approx.errors import ArgumentError, ImportFileError
from approx.multipliers.reading import SIGNED, UNSIGNED, Integers, how_to_read


def one(path: Path, *, name: str | None = None, signed: bool | None = None, bits: int | None = None) -> Multiplier:
    (multiplier,) = import_multipliers(path, name=name, signed=signed, bits=bits)
    return multiplier


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16, np.int64, np.float64])
def test_npy(tmp_path: Path, dtype: type[np.generic]) -> None:
    table: NDArray[np.generic] = np.arange(8 * 4).reshape(8, 4).astype(dtype)
    np.save(tmp_path / "mine.npy", table)
    multiplier = one(tmp_path / "mine.npy")
    assert (multiplier.name, multiplier.activation_bits, multiplier.weight_bits) == ("mine", 3, 2)
    assert not multiplier.weight_signed
    assert multiplier.lut is not None
    assert torch.equal(multiplier.lut, torch.arange(32, dtype=torch.int32).reshape(8, 4))
    assert "mine.npy" in multiplier.provenance
    assert one(tmp_path / "mine.npy", name="other", signed=True).name == "other"


def test_npz_with_many_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", mul8s_X=np.zeros((4, 4), int), plain=np.ones((4, 8), int))
    found = {multiplier.name: multiplier for multiplier in import_multipliers(tmp_path / "many.npz")}
    assert set(found) == {"mul8s_X", "plain"}
    assert found["mul8s_X"].weight_signed
    assert found["mul8s_X"].activation_signed
    assert not found["plain"].weight_signed
    assert one(tmp_path / "many.npz", name="plain").name == "plain"
    with pytest.raises(ImportFileError, match="has no table 'other'; it has mul8s_X, plain"):
        import_multipliers(tmp_path / "many.npz", name="other")


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\n".join(",".join(str(-a * w) for w in range(4)) for a in range(8)) + "\n")
    assert one(tmp_path / "mine.csv").table()[5, 3] == -15
    table = np.arange(16).reshape(4, 4)
    np.savetxt(tmp_path / "numpy.csv", table, delimiter=",")
    assert torch.equal(one(tmp_path / "numpy.csv").table(), torch.from_numpy(table).to(torch.int32))
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["1, 2, 3, 4"] * 4).encode())
    assert one(tmp_path / "excel.csv").table()[3].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (np.zeros((256, 255), int), r"shape \(256, 255\); it must be \(activation codes, weight codes\)"),
        (np.zeros(255, int), r"shape \(255,\)"),
        (np.zeros((512, 4), int), r"shape \(512, 4\).*from 4 to 256"),
        (np.zeros((4, 2), int), r"shape \(4, 2\)"),
        (np.full((4, 4), 0.5), r"the entry 0\.5; all must be integers"),
        (np.full((4, 4), np.nan), "the entry nan"),
        (np.full((4, 4), 2**31), r"entries in 2147483648\.\.2147483648; they must fit 32 bits, signed"),
        (np.full((4, 4), "1"), "entries of type <U1"),
        (np.zeros((4, 4), bool), "entries of type bool"),
        (np.zeros((4, 4), np.float16), "entries of type float16, which holds no products above 2048 exactly"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: NDArray[np.generic], complaint: str) -> None:
    np.save(tmp_path / "wrong.npy", table)
    with pytest.raises(ArgumentError, match=f"table 'wrong' has .*{complaint}"):
        one(tmp_path / "wrong.npy")


_LINES = "A,B,P\n" + "".join(f"{a},{b},{a * b}\n" for a in range(4) for b in range(4))
_LABELS = ",0,1,2,3\n" + "".join(f"{a}," + ",".join(str(a * b) for b in range(4)) + "\n" for a in range(4))


def _coarse(*, signed: bool = False, bits: int = 4) -> Integers:
    """Products of two operands, the activation without its lowest bit and the weight without its lowest two."""
    codes = np.arange(2**bits)
    values = np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes) if signed else codes
    return (values[:, None] & ~1) * (values[None, :] & ~3)


def _in_lines(*, header: str = "", low: int = 0, across: bool = False, separator: str = ",") -> str:
    """The table with one product a line."""
    values = range(low, low + 16)
    table = _coarse(signed=low < 0)
    lines = [(a, b, table[a, b]) for a in values for b in values]
    listed = [(b, a, p) if across else (a, b, p) for a, b, p in lines]
    return header + "".join(separator.join(map(str, line)) + "\n" for line in listed)


def _in_rows(*, separator: str = ",", low: int | None = None, corner: str = "", beside: bool = True) -> str:
    """The table with one activation a row, with labels from `low` if it is given."""
    values = range(16) if low is None else range(low, low + 16)
    table = _coarse(signed=(low or 0) < 0)
    lines = [[str(table[a, b]) for b in values] for a in values]
    if low is not None and beside:
        lines = [[corner, *map(str, values)], *([str(a), *line] for a, line in zip(values, lines, strict=True))]
    elif low is not None:
        lines = [[f"w={value}" for value in values], *lines]
    return "\n".join(separator.join(line) for line in lines)


def _in_c(kind: str = "const int32_t lut[16][16]", *, flat: bool = False, base: str = "{}") -> str:
    rows = [", ".join(base.format(int(product)) for product in row) for row in _coarse()]
    body = ", ".join(rows) if flat else ",\n".join(f"{{ {row} }}" for row in rows)
    return f"#include <stdint.h>\n/* a[3] = {{1}} */\n{kind} = {{\n{body}\n}};\n"


_BESIDE_EXACT = "a,w,exact,approx\n" + "".join(
    f"{a},{b},{a * b},{_coarse()[a, b]}\n" for a in range(16) for b in range(16)
)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("t.csv", _in_rows()),
        ("t.csv", _in_rows(separator=";")),
        ("t.tsv", _in_rows(separator="\t")),
        ("t.txt", "# a comment\n" + _in_rows(separator="  ")),
        ("t.csv", _in_rows(separator=", ").replace("\n", ",\n")),
        ("t.csv", '"' + _in_rows(separator='","').replace("\n", '"\n"') + '"'),
        ("t.csv", _in_rows(low=0)),
        ("t.csv", _in_rows(low=0, corner="A/B")),
        ("t.txt", _in_rows(low=0, separator=" ").lstrip()),  # nothing in the corner
        ("t.csv", _in_rows(low=0, beside=False)),
        ("t.csv", _in_lines()),
        ("t.csv", _in_lines(header="A,B,Product\n")),
        ("t.csv", _in_lines(header="b,a,p\n", across=True)),
        ("t.csv", _in_lines(header="weight,activation,out\n", across=True)),
        ("t.txt", _in_lines(separator=" ")),
        ("t.csv", _BESIDE_EXACT),
        ("t.csv", _BESIDE_EXACT.replace("exact,approx", "product,approx_product")),
        ("t.csv", _BESIDE_EXACT.replace("a,w,exact,approx", "op_a,op_b,P_exact,P")),
        ("t.csv", _in_lines(header="B[3:0],A[3:0],O[7:0]\n", across=True)),
        ("t.txt", "\n".join(" ".join(f"{int(p):08b}" for p in row) for row in _coarse())),
        ("t.h", _in_c(base="0{:o}")),
        ("t.txt", "\n".join(map(str, _coarse().ravel()))),
        ("t.csv", "\n".join(",".join(f"0x{int(p):02X}" for p in row) for row in _coarse())),
        ("t.txt", str(_coarse().tolist())),
        ("t.txt", str(_coarse())),
        ("t.h", _in_c("std::vector<int> lut", flat=True)),
        ("t.h", _in_c()),
        ("t.h", _in_c("static const uint16_t table[]", flat=True)),
        ("t.hpp", _in_c("constexpr std::array<int, 256> x; int T [256]", flat=True, base="{}u")),
        ("t.c", _in_c("uint16_t lut[16][16] __attribute__((aligned(64)))", base="0x{:X}")),
    ],
)  # fmt: skip
def test_all_forms_of_a_table_are_the_same(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    multiplier = one(tmp_path / file)
    assert (multiplier.table().numpy() == _coarse()).all()
    assert not multiplier.weight_signed
    assert not multiplier.activation_signed
    assert doubts(multiplier) == []


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("mul4u_says_otherwise.csv", _in_lines(low=-8)),
        ("mul4u_says_otherwise.csv", _in_rows(low=-8)),
        ("mul4u_says_otherwise.csv", _in_rows(low=-8, corner="a")),
        ("t.csv", _in_rows(low=-8, beside=False)),
    ],
)
def test_labels_say_sign_and_order(tmp_path: Path, file: str, form: str) -> None:
    (tmp_path / file).write_text(form)
    multiplier = one(tmp_path / file)
    assert (multiplier.table().numpy() == _coarse(signed=True)).all()
    assert multiplier.weight_signed
    assert "signed, by its labels" in multiplier.provenance or "signed, from" in multiplier.provenance


def test_labels_of_codes_say_the_order_and_not_the_sign(tmp_path: Path) -> None:
    table = _coarse(signed=True)
    lines = "".join(f"{a},{b},{table[a, b]}\n" for a in range(16) for b in range(16))
    (tmp_path / "t.csv").write_text("A,B,O\n" + lines)
    multiplier = one(tmp_path / "t.csv")
    assert multiplier.weight_signed
    assert (multiplier.table().numpy() == table).all()
    np.save(tmp_path / "t.npy", _coarse()[None])  # as the first of a batch
    assert (one(tmp_path / "t.npy").table().numpy() == _coarse()).all()


@pytest.mark.parametrize("columns", [range(-8, 8), range(16)])
def test_labels_of_one_operand_say_its_order(tmp_path: Path, columns: range) -> None:
    rows = [[a, *(a * w for w in columns)] for a in range(-8, 8)]
    (tmp_path / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    multiplier = one(tmp_path / "t.csv")
    assert (multiplier.activation_signed, multiplier.weight_signed) == (True, columns[0] < 0)
    assert torch.equal(multiplier.table(), multiplier.exact_table())


def test_products_that_wrapped_around_are_as_they_were(tmp_path: Path) -> None:
    right = _coarse(bits=8)
    np.save(tmp_path / "mul8u_x.npy", right.astype(np.int16))
    assert (one(tmp_path / "mul8u_x.npy").table().numpy() == right).all()
    np.save(tmp_path / "mul8u_y.npy", -right)
    assert "mul8u_y has negative products of unsigned operands" in doubts(one(tmp_path / "mul8u_y.npy"))


def test_lists_of_rectangular_tables(tmp_path: Path) -> None:
    right = np.arange(16)[:, None] * np.arange(4)
    np.save(tmp_path / "mul4x2u_x.npy", right.ravel())
    assert (one(tmp_path / "mul4x2u_x.npy").table().numpy() == right).all()
    (tmp_path / "t.txt").write_text("\n".join(map(str, right.ravel())))
    (multiplier,) = import_multipliers(tmp_path / "t.txt", bits=(4, 2))
    assert (multiplier.table().numpy() == right).all()


def test_arrays_far_larger_than_tables_are_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "big.npz", x=np.zeros((4096, 4096)))
    with pytest.raises(ImportFileError, match="has arrays of 134217728 bytes; tables of products have far fewer"):
        one(tmp_path / "big.npz")
    with (tmp_path / "big.npy").open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**6, 10**7)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ImportFileError, match="has arrays of 80000000000000 bytes"):
        one(tmp_path / "big.npy")


def test_one_of_several_tables_gets_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", exact=np.ones((4, 4), int), other=np.zeros((4, 4), int))
    (multiplier,) = import_multipliers(tmp_path / "t.npz", table="exact", name="mine")
    assert multiplier.name == "mine"
    assert multiplier.table()[0, 0] == 1


def test_a_corner_says_that_activations_are_across(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "w\\a," + ",".join(map(str, range(16))) + "\n"
        + "".join(f"{w}," + ",".join(str(_coarse()[a, w]) for a in range(16)) + "\n" for w in range(16))
    )  # fmt: skip
    assert (one(tmp_path / "t.csv").table().numpy() == _coarse()).all()


@pytest.mark.parametrize("said", [True, None])
@pytest.mark.parametrize("order", ["codes", "values"])
def test_the_order_of_a_signed_table_is_found(tmp_path: Path, said: bool | None, order: str) -> None:
    right = _coarse(signed=True, bits=8)
    np.save(tmp_path / "t.npy", right if order == "codes" else np.roll(right, (128, 128), (0, 1)))
    multiplier = one(tmp_path / "t.npy", signed=said)
    assert (multiplier.table().numpy() == right).all()
    assert ("from the lowest value" in multiplier.provenance) == (order == "values")


def test_unsigned_activations_and_signed_weights(tmp_path: Path) -> None:
    right = (np.arange(16)[:, None] & ~1) * np.arange(-8, 8)
    np.savetxt(tmp_path / "t.csv", right, fmt="%d", delimiter=",")
    multiplier = one(tmp_path / "t.csv")
    assert (multiplier.activation_signed, multiplier.weight_signed) == (False, True)
    assert (multiplier.table().numpy() == np.roll(right, -8, 1)).all()
    assert "unsigned activations, signed weights, from the lowest value" in multiplier.provenance


@pytest.mark.parametrize("dtype", ["<u1", "<u2", ">u2", "<u4", "<i4", ">i4", "<i8"])
def test_binary_tables_of_any_entries(tmp_path: Path, dtype: str) -> None:
    _coarse().astype(dtype).tofile(tmp_path / "mul4u_own.bin")
    multiplier = one(tmp_path / "mul4u_own.bin")
    assert (multiplier.table().numpy() == _coarse()).all()
    assert f"entries of {8 * np.dtype(dtype).itemsize} bits" in multiplier.provenance
    _coarse(signed=True).astype(dtype.replace("u", "i")).tofile(tmp_path / "mul4s_own.bin")
    assert (one(tmp_path / "mul4s_own.bin").table().numpy() == _coarse(signed=True)).all()


def test_the_width_of_a_binary_table_is_given_or_found(tmp_path: Path) -> None:
    _coarse().astype("<u2").tofile(tmp_path / "t.bin")  # 512 bytes, which are 16-bit entries of 4 x 4 bits only
    assert one(tmp_path / "t.bin").weight_bits == 4
    table = np.arange(8)[:, None] * np.arange(8)
    table.astype("<u4").tofile(tmp_path / "three.bin")  # 256 bytes, or 8-bit entries of 4 x 4 bits
    assert one(tmp_path / "three.bin").weight_bits == 3
    assert one(tmp_path / "three.bin", bits=4).weight_bits == 4
    (multiplier,) = import_multipliers(tmp_path / "three.bin", bits=(5, 3))
    assert (multiplier.activation_bits, multiplier.weight_bits) == (5, 3)
    (tmp_path / "odd.bin").write_bytes(bytes(100))
    with pytest.raises(ImportFileError, match="has 100 bytes, which is no table of operands of 2 to 8 bits"):
        one(tmp_path / "odd.bin")


def test_a_repeated_table_is_doubted_and_can_be_narrowed(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.tile(_coarse(), (16, 16)))
    assert "repeat after 16 activation codes" in doubts(one(tmp_path / "t.npy"))[0]
    multiplier = one(tmp_path / "t.npy", bits=4)
    assert (multiplier.table().numpy() == _coarse()).all()
    with pytest.raises(ImportFileError, match="256 x 256 products, which are not those of 3 x 3 bits as `bits` says"):
        one(tmp_path / "t.npy", bits=3)
    with pytest.raises(ArgumentError, match="`bits` must be the width of both operands, 2 to 8"):
        one(tmp_path / "t.npy", bits=9)


def test_arrays_of_anything_but_integers_are_refused(tmp_path: Path) -> None:
    for entry in ("1.0", "1 << 4", "N + 0", "[3] = 5", "089"):
        (tmp_path / "t.h").write_text(f"int t[16] = {{{', '.join([entry] * 16)}}};")
        with pytest.raises(ImportFileError, match=r"the array t has the entry .*, not an integer"):
            one(tmp_path / "t.h")


def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "luts.h").write_text(_in_c("int mul8s_x[16][16]") + _in_c("int second[16][16]"))
    assert [multiplier.name for multiplier in import_multipliers(tmp_path / "luts.h")] == ["mul8s_x", "second"]
    assert one(tmp_path / "luts.h", name="second").name == "second"
    (tmp_path / "none.h").write_text("int x[3] = {1, 2, 3};")
    with pytest.raises(ImportFileError, match=r"has neither a function of two integers.* nor an array of products"):
        one(tmp_path / "none.h")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,2\n3\n", "rows have 1 to 2 entries; all must have the same number"),
        ("1,2\n3,x\n", "line 2, entry 2 is 'x', not an integer; entries are separated by commas"),
        ("a,b\n3,4\n", "line 1, entry 1 is 'a', not an integer; .* may have labels in the first line"),
        ("1;2\n3;x\n", "line 2, entry 2 is 'x', not an integer; entries are separated by semicolons"),
        ("A,B,P\n0,0,0\n0,1,0\n1,0,0\n3,3,9\n", "lacks 12 of 16 products of 2 x 2 bits, such as .* 0 and 2"),
        ("A,B,P\n0,0,0\n3,300,0\n", r"weights are 0 to 300, which are 9 bits; tables have 2 to 8"),
        (_LINES.replace("3,3,9", "3,3,8\n3,3,9"), "line 17 has another product than a later line has"),
        (_LABELS.replace("\n2,", "\n7,"), "the labels of rows must be the operand's values, 0 to 3 or -2 to 1"),
        ("1_0,2\n", "entry 1 is '1_0', not an integer"),
        ("9" * 5000 + ",2\n", "entry 1 is '99999999999999999999...', not an integer"),
        ("nan,2\n", "entry 1 is 'nan', not an integer"),
        ("1,2\n3,4.5\n", r"line 2, entry 2 is '4\.5', not an integer"),
        ("1,2\n3,99999999999999999999\n", "line 2, entry 2 is 99999999999999999999; entries must fit 32 bits"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("1,2\n3,4\n", r"shape \(2, 2\)"),
    ],
)
def test_csv_that_does_not_fit_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises((ImportFileError, ArgumentError), match=complaint):
        one(tmp_path / "wrong.csv")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"there is no file .*nothing\.npy"):
        one(tmp_path / "nothing.npy")
    (tmp_path / "table.pdf").write_text("1")
    with pytest.raises(ImportFileError, match=r"cannot import \.pdf; supported: \.npy, \.npz, \.csv, .*\.bin, \.h"):
        one(tmp_path / "table.pdf")
    (tmp_path / "mul.v").write_text("module mul(); endmodule")
    with pytest.raises(ImportFileError, match=r"is a circuit.* with: search multipliers characterise .*mul\.v"):
        one(tmp_path / "mul.v")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ImportFileError, match=r"damaged\.npz cannot be read"):
        one(tmp_path / "damaged.npz")
    with ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    with pytest.raises(ImportFileError, match=r"text\.npz"):
        one(tmp_path / "text.npz")
    np.savez_compressed(tmp_path / "bits.npz", table=np.arange(65536).reshape(256, 256))
    whole = bytearray((tmp_path / "bits.npz").read_bytes())
    whole[200:400] = bytes(200)
    (tmp_path / "bits.npz").write_bytes(whole)
    with pytest.raises(ImportFileError, match=r"bits\.npz cannot be read"):
        one(tmp_path / "bits.npz")
    (tmp_path / "damaged.npy").write_bytes(b"")
    with pytest.raises(ImportFileError, match=r"damaged\.npy cannot be read"):
        one(tmp_path / "damaged.npy")


def rounding(column: str, published: float) -> float:
    """By how much a figure may differ from one that was rounded as EvoApproxLib rounds."""
    if column == "meas_bias":
        return 5.1e-5
    if column in ("MRE_pct", "EP_pct") and published >= 0.1:
        return 5.1e-3
    # Whole numbers of eight digits at most, some rounded and some cut off, or two significant digits.
    return max(0.99, 1e-8 * published) if published >= 10 else 0.05 * published


def test_signs_and_orders_of_evoapproxlib_are_found_without_its_names(real_data: Path) -> None:
    file = real_data / "evoapprox8x8" / "evoapprox8x8.npz"
    if not file.is_file():
        pytest.skip("needs evoapprox8x8 beside MNIST")
    with np.load(file) as tables:
        for name in tables.files:
            table = tables[name].astype(np.int64)
            signed = name.startswith("mul8s")
            assert how_to_read(table, None) == (SIGNED if signed else UNSIGNED), name
            if signed:
                assert how_to_read(np.roll(table, (128, 128), (0, 1)), None).from_lowest, name
                assert how_to_read(table & 0xFFFF, None) == SIGNED, name


def test_evoapproxlib_has_its_published_errors(real_data: Path) -> None:
    folder = real_data / "evoapprox8x8"
    if not folder.is_dir():
        pytest.skip("needs evoapprox8x8 beside MNIST")
    with (folder / "evoapprox8x8.csv").open() as lines:
        published = {row["name"]: row for row in csv.DictReader(lines)}
    imported = {multiplier.name: multiplier for multiplier in import_multipliers(folder / "evoapprox8x8.npz")}
    assert imported.keys() == published.keys()
    assert len(imported) == 27
    for name, row in published.items():
        assert imported[name].weight_signed == (row["signed"] == "1")
        metrics: ErrorMetrics = error_metrics(imported[name])
        measured = {
            "MAE": metrics.mae,
            "WCE": metrics.wce,
            "MRE_pct": metrics.mre_nonzero * 100,
            "EP_pct": metrics.error_probability * 100,
            "MSE": metrics.mse,
            "meas_bias": metrics.bias,
        }
        for column, found in measured.items():
            theirs = float(row[column])
            assert abs(found - theirs) <= rounding(column, theirs), (name, column, found, theirs)
        assert metrics.commutative == (row["commutative"] == "1"), name
        assert metrics.zero_preserving == (row["zero_times_x_is_zero"] == "1"), name
