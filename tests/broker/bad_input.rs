//! The list of bad input (research: reliability, section 3.1) and the tests that hold it: every line
//! of the list has one, or says why there is none yet. What is below is held against the sources,
//! so that a test cannot be renamed or removed without its line.

#![allow(clippy::disallowed_methods, reason = "the suite's own sources are files")]

use std::path::PathBuf;

/// Lines of the list, and `file::test` of what holds them.
const HELD: &[(&str, &[&str])] = &[
    // Frames.
    ("frame of size 0", &["hostile::an_empty_frame_is_refused"]),
    ("frame of size 1", &["frames::a_frame_of_one_byte_is_refused"]),
    (
        "frame of size 7",
        &[
            "frames::a_frame_of_seven_bytes_is_refused",
            "hostile::a_header_of_three_bytes_is_refused",
        ],
    ),
    (
        "negative frame size",
        &[
            "hostile::a_negative_frame_length_is_refused",
            "frames::the_least_negative_frame_length_is_refused",
        ],
    ),
    (
        "frame of 2^31-1 bytes",
        &[
            "frames::a_frame_of_two_gibibytes_is_refused_by_its_length_alone",
            "hostile::a_frame_above_the_limit_is_refused_by_its_length_alone",
            "limits::a_request_above_socket_request_max_bytes_is_refused_by_its_length",
        ],
    ),
    (
        "HTTP, with one clear line",
        &[
            "hostile::an_http_request_is_closed_and_logged_in_words",
            "hostile::a_hostile_peer_cannot_flood_the_log",
            "frames::every_http_method_is_recognised",
        ],
    ),
    ("TLS on plaintext", &["hostile::a_tls_client_hello_is_closed_and_logged_in_words"]),
    ("SSH banner", &["frames::an_ssh_banner_is_refused_by_its_length"]),
    (
        "no allocation on the prefix, a budget for what is in flight",
        &[
            "slow::halves_of_large_requests_do_not_stop_a_producer_of_large_requests",
            "slow::large_fetches_that_wait_give_way_to_a_producer",
            "hostile::a_frame_cut_short_by_its_peer_leaves_nothing_behind",
        ],
    ),
    (
        "frames in pieces and in one write",
        &[
            "frames::a_frame_that_comes_byte_by_byte_is_a_frame",
            "frames::frames_that_come_in_one_write_are_told_apart",
            "hostile::requests_before_a_hostile_one_are_answered",
        ],
    ),
    // Headers.
    (
        "unknown api key",
        &[
            "hostile::an_unknown_api_key_is_refused",
            "hostile::an_api_of_kafka_that_is_not_advertised_is_refused",
            "frames::a_negative_api_key_is_refused",
        ],
    ),
    (
        "unsupported version",
        &[
            "hostile::a_version_that_is_not_advertised_is_refused",
            "hostile::api_versions_99_is_answered_in_version_0_with_the_list_of_versions",
            "frames::a_negative_version_is_refused",
        ],
    ),
    (
        "client id null, long, not UTF-8",
        &[
            "frames::a_request_without_client_id_and_one_with_the_longest_are_answered",
            "frames::a_client_id_that_is_no_string_is_refused",
        ],
    ),
    ("correlation id reused", &["frames::a_correlation_id_may_come_again_and_be_anything"]),
    (
        "headers with and without tags mixed up",
        &[
            "frames::a_flexible_version_with_a_header_without_tags_is_refused",
            "frames::an_older_version_with_a_header_with_tags_is_refused",
            "frames::the_answer_to_api_versions_never_has_tags_in_its_header",
            "frames::tags_of_a_header_that_lie_are_refused",
            "frames::unknown_tags_of_a_header_are_passed_over_in_any_order",
        ],
    ),
    // Counts.
    (
        "arrays of 2^31-1 or 2^32-2 elements in 8 bytes",
        &[
            "hostile::metadata_v4_with_two_billion_topics_in_six_bytes_is_refused",
            "hostile::metadata_v9_with_a_compact_count_of_five_bytes_is_refused",
            "hostile::produce_v7_with_a_giant_count_is_refused",
        ],
    ),
    (
        "bounded arrays that amplify",
        &[
            "hostile::a_legal_metadata_v9_of_four_million_empty_names_takes_no_memory_beyond_its_bytes",
            "fields::small_elements_that_become_large_ones_take_no_memory",
            "amplify::partitions_of_an_unknown_topic_share_its_long_name",
            "amplify::a_produce_of_millions_of_partitions_closes_the_connection",
            "amplify::a_group_named_often_is_described_once",
        ],
    ),
    ("nested arrays", &["fields::a_giant_count_inside_an_array_is_refused"]),
    (
        "varints: too long, not minimal, overflowing",
        &[
            "fields::a_varint_of_more_than_five_bytes_is_refused",
            "fields::a_varint_that_overflows_is_refused_where_it_counts",
            "fields::a_varint_that_is_longer_than_needed_is_read",
        ],
    ),
    ("compact length 0 where not nullable", &["fields::null_where_it_is_not_allowed_is_refused"]),
    (
        "tagged fields: count, order, length",
        &[
            "fields::tags_of_a_body_that_lie_are_refused",
            "fields::tags_that_come_twice_or_backwards_are_passed_over",
        ],
    ),
    (
        "trailing or missing bytes of a body",
        &[
            "fields::bytes_behind_a_body_are_passed_over_as_kafka_does",
            "fields::a_body_that_ends_early_is_refused_wherever_it_ends",
        ],
    ),
    // Strings.
    (
        "strings: invalid UTF-8, NUL, over-long",
        &[
            "fields::a_string_that_is_not_utf_8_is_refused",
            "fields::a_string_longer_than_its_body_is_refused",
            "names::topic_names_that_kafka_refuses_are_not_created",
        ],
    ),
    (
        "topic names: empty, dots, length, characters",
        &["names::topic_names_that_kafka_refuses_are_not_created"],
    ),
    ("a.b and a_b", &["names::topic_names_that_differ_in_dots_and_underscores_collide"]),
    ("names as paths; group ids of any text", &["names::group_ids_are_any_text_and_never_paths"]),
    ("lines of the log", &["names::text_of_a_peer_cannot_forge_a_line_of_the_log"]),
    // Record batches.
    (
        "batch below 61 bytes, or cut",
        &[
            "records::a_batch_shorter_than_its_header_is_refused",
            "records::a_batch_cut_short_is_refused",
            "records::a_batch_length_that_lies_is_refused",
        ],
    ),
    ("wrong CRC-32C", &["records::a_wrong_checksum_is_refused"]),
    ("magic other than 2", &["records::another_magic_is_refused"]),
    (
        "more than one batch per partition",
        &[
            "records::more_than_one_batch_for_a_partition_is_refused",
            "records::one_bad_batch_does_not_spoil_the_others_of_its_request",
        ],
    ),
    ("negative range of offsets", &["records::offsets_that_are_negative_or_not_fresh_are_refused"]),
    (
        "count not positive or not that of the offsets",
        &["records::a_record_count_that_is_not_that_of_the_offsets_is_refused"],
    ),
    ("control bit of a client", &["records::a_control_batch_of_a_client_is_refused"]),
    (
        "producer id with a negative sequence",
        &["records::a_producer_id_with_a_negative_epoch_or_sequence_is_refused"],
    ),
    ("timestamp type or time", &["records::times_out_of_range_are_refused"]),
    ("codecs 5 to 7", &["records::an_unknown_codec_is_refused"]),
    (
        "record size beyond the batch",
        &[
            "records::a_record_longer_than_its_batch_is_refused",
            "records::a_record_of_negative_length_or_of_nothing_is_refused",
            "records::a_key_or_value_that_lies_about_its_length_is_refused",
        ],
    ),
    (
        "records left over or missing",
        &[
            "records::bytes_behind_the_last_record_are_refused",
            "records::fewer_records_than_counted_are_refused",
        ],
    ),
    (
        "headers: count above what is left, negative key",
        &[
            "records::more_headers_than_fit_are_refused",
            "records::a_header_with_a_negative_or_false_length_is_refused",
        ],
    ),
    (
        "offset deltas not 0 to n-1",
        &["records::offset_deltas_that_do_not_count_from_zero_are_refused"],
    ),
    (
        "compressed body with fewer or more records",
        &[
            "records::a_compressed_batch_with_more_or_fewer_records_is_refused_where_records_are_read",
            "records::a_compressed_batch_that_is_none_is_refused_where_records_are_read",
        ],
    ),
    // Decompression.
    (
        "gzip and zstd of ratio 1000:1 and more",
        &[
            "bombs::a_gzip_bomb_is_bounded",
            "bombs::a_gzip_of_many_members_is_one_bomb",
            "bombs::a_zstd_bomb_is_bounded",
            "bombs::zstd_frames_that_lie_about_their_sizes_are_refused",
        ],
    ),
    (
        "snappy declaring 4 GiB, xerial block lengths",
        &[
            "bombs::a_snappy_bomb_is_bounded",
            "bombs::a_raw_snappy_block_that_claims_4_gib_is_refused",
            "bombs::lengths_of_xerial_blocks_that_lie_are_refused",
        ],
    ),
    (
        "lz4 without and with a false content size",
        &[
            "bombs::an_lz4_bomb_is_bounded",
            "bombs::lz4_frames_that_lie_about_their_sizes_are_refused",
        ],
    ),
    (
        "nothing is decompressed without need",
        &[
            "bombs::nothing_is_decompressed_where_records_are_not_read",
            "bombs::a_look_up_by_time_in_a_bomb_is_bounded",
            "bombs::look_ups_by_time_on_many_connections_have_one_bound_together",
        ],
    ),
    // All of it at once.
    (
        "every API and version, and mutations of them",
        &[
            "mutations::every_file_of_the_corpus_does_no_harm_over_a_socket",
            "mutations::thousands_of_mutated_requests_do_no_harm_over_sockets",
        ],
    ),
];

/// Lines that nothing can hold yet, and what they wait for.
const NOT_YET: &[(&str, &str)] = &[
    ("plaintext on a TLS port", "no TLS listener yet"),
    ("frame of 512 KiB and more before authentication", "no SASL yet"),
    ("transactional ids", "no transactions yet"),
];

fn source(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broker");
    std::fs::read_to_string(path.join(format!("{file}.rs"))).unwrap()
}

#[test]
fn every_line_of_the_list_names_tests_that_are_there() {
    for (line, tests) in HELD {
        assert!(!tests.is_empty(), "{line}");
        for test in *tests {
            let (file, name) = test.split_once("::").unwrap();
            let declared = format!("#[test]\nfn {name}() {{");
            assert!(source(file).contains(&declared), "{line}: no test {test}");
        }
    }
}

#[test]
fn every_test_of_bad_input_stands_in_the_list() {
    for file in ["hostile", "frames", "fields", "names", "records", "bombs"] {
        let text = source(file);
        for rest in text.split("#[test]\nfn ").skip(1) {
            let name = rest.split('(').next().unwrap();
            let test = format!("{file}::{name}");
            let listed = HELD.iter().any(|(_, tests)| tests.contains(&&*test));
            assert!(listed || BESIDE.contains(&&*test), "{test} is in no line of the list");
        }
    }
}

/// Tests in the same files that are about something else.
const BESIDE: &[&str] = &[
    "hostile::produce_v2_is_advertised_and_closes_as_kafka_4_does",
    "hostile::a_peer_that_asks_for_transactions_again_and_again_cannot_flood_the_log",
];

#[test]
fn a_line_is_held_or_waits_and_never_both() {
    let mut lines: Vec<&str> = HELD.iter().map(|(line, _)| *line).collect();
    lines.extend(NOT_YET.iter().map(|(line, reason)| {
        assert!(!reason.is_empty());
        *line
    }));
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), count);
}
