//! Where containerd is no oracle, and why.

/// Tests that fail on containerd on purpose of one side: they run there all the same, and one that passes is an error.
pub const DIFFERENCES: &[(&str, &str)] = &[
    (
        "first_seven::a_timeout_of_exec_sync_kills_the_children_of_the_command",
        "it kills the command's own process: what that has started goes on",
    ),
    ("first_seven::a_tag_is_removed_alone", "it removes the image with all its names, whichever is named"),
    ("first_seven::stopping_what_is_unknown_is_no_error", "1.6 says NotFound, newer ones that it is stopped"),
    ("security::a_capability_that_does_not_exist_is_refused", "its runc leaves out what it does not know"),
    ("images::images_are_listed_by_name", "it lists all images, whatever the filter says"),
    ("input::missing_configurations_are_named", "its errors of input have the code Unknown"),
    ("input::a_pod_without_a_name_is_refused", "it takes pods without a name, a uid or a namespace"),
    ("input::enumerations_out_of_range_are_refused", "it takes an unknown propagation for private"),
];

/// Tests of what containerd 1.6's version of the interface does not have.
pub const ABSENT: &[(&str, &str)] = &[
    ("runtime::the_cgroup_driver_is_told", "1.6 has no RuntimeConfig"),
    ("runtime::handlers_and_features_are_told", "1.6's Status has neither"),
    ("runtime::checkpoints_are_not_implemented", "1.6 has no checkpoints"),
    ("pods::a_port_of_the_host_leads_to_the_pod", "a port is its network plugin's to publish"),
    ("pods::pods_are_streamed_as_they_are_listed", "1.6 has no streaming lists"),
    ("containers::containers_are_streamed_as_they_are_listed", "1.6 has no streaming lists"),
    ("containers::a_stop_signal_of_the_request_is_sent", "1.6 has no stop_signal"),
    ("containers::cdi_devices_are_looked_up", "1.6 has no CDI"),
    ("namespaces::a_user_namespace_maps_what_it_says", "1.6 has no user namespaces"),
    ("namespaces::a_user_namespace_refuses_the_hosts_namespaces", "1.6 has no user namespaces"),
    ("identity::strict_groups_are_those_of_the_request_alone", "1.6 has no supplementalGroupsPolicy"),
    ("identity::the_status_shows_the_user", "1.6 has no user in the status"),
    ("cpu_and_memory::the_status_shows_the_resources", "1.6 has no resources in the status"),
    ("cpu_and_memory::a_pods_resources_are_updated", "1.6 has no UpdatePodSandboxResources"),
    ("mounts::an_image_is_mounted", "1.6 has no image mounts"),
    ("mounts::a_part_of_an_image_is_mounted", "1.6 has no image mounts"),
    ("mounts::read_only_is_recursive_if_asked_for", "1.6 has no recursive read-only mounts"),
    ("mounts::options_of_a_mount_are_kept", "1.6 has no mount options"),
    ("mounts::ids_of_a_mount_are_mapped", "1.6 has no id-mapped mounts"),
    ("mounts::contradictory_mounts_are_refused", "1.6 has none of these fields"),
    ("logs::nothing_is_lost_at_the_end", "what is in 1.6's pipes when a container ends is lost at times"),
    ("images::images_are_streamed_as_they_are_listed", "1.6 has no streaming lists"),
    ("stats::pods_have_metrics", "1.6 has no metrics"),
    ("stats::stats_are_streamed_as_they_are_listed", "1.6 has no streaming lists"),
    ("events::containers_have_events_in_order", "1.6 has no GetContainerEvents"),
];
