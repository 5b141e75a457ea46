"""From YAML text to plain values with lines (`written`), and from a model's refusal to people's words (`words`)."""
