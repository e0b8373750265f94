//! What the command line says of a pod beside its manifest.

use super::arguments::PodArguments;
use crate::manifest::{self, DnsPolicy, MOST_NAMESERVERS, Pod};
use crate::report::{Report, exit_code};

fn usage(what: String, why: String) -> Report {
    Report::new(exit_code::USAGE, what).because(why)
}

/// Puts `asked` in place of what `pod` has.
pub(crate) fn adjust(asked: &PodArguments, pod: &mut Pod) -> Result<(), Report> {
    let PodArguments { hostname, dns, label } = asked;
    if let Some(name) = hostname {
        manifest::dns_label(name).map_err(|rule| {
            usage(format!("--hostname {name}"), format!("it must {rule}"))
                .hint("a full name takes spec.subdomain and spec.setHostnameAsFQDN of a manifest")
        })?;
        pod.spec.hostname = Some(name.clone());
    }
    if dns.len() > MOST_NAMESERVERS {
        let why = format!("there are {}, and a resolver asks {MOST_NAMESERVERS} at most (resolv.conf(5))", dns.len());
        return Err(usage("--dns: too many name servers".to_owned(), why).hint("leave out the last of them"));
    }
    if !dns.is_empty() {
        pod.spec.dns_policy = DnsPolicy::None;
        pod.spec.dns_config.nameservers.clone_from(dns);
    }
    for typed in label {
        let (key, value) = typed.split_once('=').unwrap_or((typed, ""));
        let wrong =
            |part: &'static str| move |rule: &str| usage(format!("--label {typed}"), format!("its {part} must {rule}"));
        manifest::label_key(key).map_err(wrong("key"))?;
        manifest::label_value(value).map_err(wrong("value"))?;
        pod.metadata.labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = r#"{ apiVersion: v1, kind: Pod, metadata: { name: web, labels: { app: old, tier: front } },
        spec: { hostname: written, dnsConfig: { nameservers: [192.0.2.1], searches: [example.org] },
        containers: [{ name: a, image: "host:" }] } }"#;

    fn adjusted(asked: &PodArguments) -> Result<Pod, Report> {
        let mut pod = manifest::parse(WEB, "web.yaml").expect("a pod");
        adjust(asked, &mut pod).map(|()| pod)
    }

    #[test]
    fn nothing_asked_changes_nothing() {
        assert_eq!(adjusted(&PodArguments::default()), Ok(manifest::parse(WEB, "web.yaml").expect("a pod")));
    }

    #[test]
    fn what_is_asked_stands_over_the_manifest() {
        let asked = PodArguments {
            hostname: Some("typed".to_owned()),
            dns: vec!["192.0.2.53".parse().expect("an address")],
            label: ["app=new", "example.org/mark"].map(str::to_owned).into(),
        };
        let Pod { metadata, spec } = adjusted(&asked).expect("a pod");
        assert_eq!(spec.hostname.as_deref(), Some("typed"));
        assert_eq!((spec.dns_policy, &spec.dns_config.nameservers), (DnsPolicy::None, &asked.dns));
        assert_eq!(spec.dns_config.searches, ["example.org"]);
        let labels: Vec<_> = metadata.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("app", "new"), ("example.org/mark", ""), ("tier", "front")]);
    }

    #[test]
    fn what_kubernetes_would_refuse_is_bad_usage() {
        let ip = "192.0.2.53".parse().expect("an address");
        for wrong in [
            PodArguments { hostname: Some("web.example.org".to_owned()), ..Default::default() },
            PodArguments { dns: vec![ip; 4], ..Default::default() },
            PodArguments { label: vec!["=x".to_owned()], ..Default::default() },
            PodArguments { label: vec!["a=b c".to_owned()], ..Default::default() },
        ] {
            assert_eq!(adjusted(&wrong).expect_err(&format!("{wrong:?}")).exit_code, exit_code::USAGE);
        }
    }
}
