//! Ethash, Etchash and KawPow on the command line: blocks of real chains, claims that are shares and claims that
//! are not, and everything that may be wrong with epochs, nonces and files.

mod common;

use common::{run, scratch};

const HEADER: &str = "372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d";
const NONCE: &str = "495732e0ed7a801c";
const MIX: &str = "2f74cdeb198af0b9abe65d22d372e22fb2d474371774a9583c1cc427a07939f5";
const HASH: &str = "00000b184f1fdd88bfd94c86c39e65db0c36144d5e43f745f722196e730cb614";

fn refused(args: &[&str], words: &[&str]) {
    failed(2, args, words);
}

fn failed(code: i32, args: &[&str], words: &[&str]) {
    let answer = run(args);
    assert_eq!((answer.code, answer.stdout.as_str()), (code, ""), "{args:?}: {}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
    for word in words {
        assert!(answer.stderr.contains(word), "{args:?}: {} says nothing of {word}", answer.stderr);
    }
}

#[test]
fn blocks_of_real_chains_hash_to_what_they_did() {
    let hash = |args: &[&str]| run(&[&["hash"], args].concat()).ok();
    let expected = format!("mix {MIX}  digest {HASH}\n");
    assert_eq!(hash(&["ethash", "--height", "22", "--nonce", NONCE, HEADER]), expected);
    assert_eq!(hash(&["ethash", "--epoch", "0", "--nonce", NONCE, "--kernel", "portable", HEADER]), expected);
    assert_eq!(hash(&["ethash", "--height", "22", "--nonce", NONCE, "--isa", "none", HEADER]), expected);
    // Before ECIP-1099 Etchash's epochs are Ethash's.
    assert_eq!(hash(&["ethash", "--etchash", "--height", "22", "--nonce", NONCE, HEADER]), expected);

    // Ethereum Classic's block 12500000, Ravencoin's block 1220400.
    let classic = hash(&[
        "ethash",
        "--etchash",
        "--height",
        "12500000",
        "--nonce",
        "431d9c1839838ea1",
        "--json",
        "1d225541aeda9d1110b9e61c0c6c81f12376e9b4111472351196b9d557ba83d8",
    ]);
    assert_eq!(
        classic,
        "{\"algorithm\":\"etchash\",\"mix\":\"c280665934366eb1ac3fcf5e6f4e37945e05d764acf2a8106a982826078b613c\",\"digest\":\"00000000000069bdf3a3bf3bab6529869d8419e477e53898d6c123d023386b20\"}\n"
    );
    for more in [&[][..], &["--no-jit"], &["--isa", "avx2"]] {
        let args = [
            "kawpow",
            "--height",
            "1220400",
            "--nonce",
            "504c0000204b556d",
            "3afceaa95517c5d22961050a93258646fa50f1e6bafbdf09f3d233f4a9267558",
        ];
        assert_eq!(
            hash(&[&args, more].concat()),
            "mix 60cf4a1b02238f71f4583601dd40ec4e2366b063ebdb18770257f3046d5ba7fd  digest 000000000001358bd99973e3f711b933b43cba19fb9941bde5f3fa0ebc4e0b0c\n"
        );
    }
}

#[test]
fn claims_are_verified_and_those_that_refute_themselves_at_once() {
    let verify = |more: &[&str]| {
        run(&[&["verify", "ethash", "--height", "22", "--nonce", NONCE][..], more, &[HEADER]].concat())
    };
    let share = verify(&["--difficulty", "132416", "--mix", MIX]).ok();
    assert_eq!(share, format!("valid: digest {HASH}\n"));
    assert_eq!(verify(&["--target", HASH, "--hash", HASH]).ok(), share);
    let json = verify(&["--target", HASH, "--json"]).json_lines();
    assert_eq!((&json[0]["valid"], json[0]["mix"].as_str()), (&true.into(), Some(MIX)));

    let wrong = |more: &[&str], words: &[&str]| {
        let answer = verify(more);
        assert_eq!(answer.code, 1);
        assert!(words.iter().all(|word| answer.stderr.contains(word)), "{}", answer.stderr);
    };
    let other_mix = MIX.replace('2', "3");
    wrong(&["--difficulty", "132416", "--mix", &other_mix], &["not a share", "above the target"]);
    // A target that any hash meets leaves only the mix hash to be wrong.
    wrong(&["--target", &"f".repeat(64), "--mix", &other_mix], &["mix hash differs"]);
    wrong(&["--difficulty", "132416000"], &[HASH, "above the target"]);
    let other_hash = HASH.replace("0b18", "0b19");
    wrong(&["--difficulty", "100", "--hash", &other_hash], &[HASH, "differs from the one claimed"]);

    let genesis = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";
    let digest = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000";
    assert_eq!(
        run(&["verify", "sha256d", "--difficulty", "1", genesis]).ok(),
        format!("valid: digest {digest}\n")
    );
    failed(1, &["verify", "sha256d", "--difficulty", "1e9", genesis], &["above the target"]);
}

#[test]
fn a_search_finds_what_verifying_confirms() {
    for (algorithm, height) in [("ethash", "5"), ("kawpow", "5")] {
        let found = run(&[
            "scan",
            algorithm,
            "--mode",
            "light",
            "--height",
            height,
            "--target",
            &format!("0{}", "f".repeat(63)),
            "--count",
            "256",
            "--json",
            HEADER,
        ])
        .json_lines();
        assert!(!found.is_empty());
        let nonce = format!("{:016x}", found[0]["nonce"].as_u64().unwrap());
        let digest = found[0]["digest"].as_str().unwrap();
        let mix = found[0]["mix"].as_str().unwrap();
        let answer = run(&[
            "verify", algorithm, "--height", height, "--nonce", &nonce, "--mix", mix, "--hash", digest,
            "--target", digest, HEADER,
        ]);
        assert_eq!(answer.ok(), format!("valid: digest {digest}\n"));
    }
}

#[test]
fn epochs_nonces_and_hashes_that_cannot_be_are_said_at_once() {
    let hash = |algorithm: &str, more: &[&str], words: &[&str]| {
        refused(&[&["hash", algorithm][..], more].concat(), words);
    };
    hash("ethash", &["--epoch", "32640", "--nonce", NONCE, HEADER], &["32640", "expected 0 to 32639"]);
    hash(
        "ethash",
        &["--height", "999999999999", "--nonce", NONCE, HEADER],
        &["999999999999", "expected 0 to"],
    );
    hash("kawpow", &["--height", "999999999", "--nonce", NONCE, HEADER], &["999999999", "expected 0 to"]);
    hash("ethash", &["--nonce", NONCE, HEADER], &["--height", "--epoch"]);
    hash("ethash", &["--height", "1", "--epoch", "0", "--nonce", NONCE, HEADER], &["--epoch"]);
    hash("ethash", &["--height", "-1", "--nonce", NONCE, HEADER], &["-1"]);
    for (nonce, length) in [("", "0"), ("12", "2"), ("495732e0ed7a801c0", "17"), ("0x495732e0ed7a801", "15")]
    {
        hash("ethash", &["--height", "1", "--nonce", nonce, HEADER], &[length, "expected 16 hex digits"]);
    }
    hash("ethash", &["--height", "1", "--nonce", "495732e0ed7a801g", HEADER], &["expected 16 hex digits"]);
    hash("ethash", &["--height", "1", "--nonce", NONCE, "12"], &["'12'", "expected 64 hex digits"]);
    hash("kawpow", &["--nonce", NONCE, HEADER], &["--height"]);
    hash("kawpow", &["--height", "1", "--nonce", NONCE, "--kernel", "x9", HEADER], &["'x9'", "kawpow-"]);

    refused(&["scan", "ethash", "--difficulty", "1", HEADER], &["ethash needs --height N or --epoch N"]);
    refused(&["scan", "ethash", "--key", "00", "--difficulty", "1", HEADER], &["takes no key"]);
    refused(&["scan", "sha256d", "--epoch", "1", "--difficulty", "1", HEADER], &["no epochs of blocks"]);
    let roll = ["--version-mask", "1fffe000"];
    refused(
        &[&["scan", "ethash", "--epoch", "0", "--difficulty", "1"], &roll[..], &[HEADER]].concat(),
        &["no version field"],
    );
    refused(&["verify", "ethash", "--height", "1", "--difficulty", "1", HEADER], &["needs --nonce"]);
    refused(&["verify", "sha256d", "--nonce", NONCE, "--difficulty", "1", HEADER], &["leave --nonce out"]);
    refused(&["verify", "ethash", "--height", "1", "--nonce", NONCE, HEADER], &["--target"]);
    refused(&["bench", "ethash", "--epoch", "99999"], &["99999", "expected 0 to 32639"]);
}

#[test]
fn files_that_are_missing_foreign_or_out_of_reach_are_said() {
    let folder = scratch("dags");
    std::fs::create_dir_all(&folder).unwrap();
    let dir = folder.to_str().unwrap();
    let check = |epoch: &str, dir: &str| {
        ["dag", "check", "--algorithm", "ethash", "--epoch", epoch, "--dir", dir].map(str::to_owned)
    };
    let failed = |args: &[String], words: &[&str]| {
        failed(1, &args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    failed(&check("0", dir), &["there is no ", "ethash-0.epoch", "build it first"]);
    std::fs::write(folder.join("ethash-1.epoch"), "not a dataset at all".repeat(100)).unwrap();
    failed(&check("1", dir), &["ethash-1.epoch", "is no epoch file"]);
    failed(&check("0", "/proc/version"), &["/proc/version"]);
    refused(
        &["dag", "build", "--algorithm", "randomx", "--epoch", "0", "--dir", dir],
        &["randomx", "expected ethash, etchash or kawpow"],
    );
    refused(
        &["dag", "check", "--algorithm", "kawpow", "--epoch", "40000", "--dir", dir],
        &["40000", "expected 0 to 32639"],
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
