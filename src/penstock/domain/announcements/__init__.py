"""What the operator tells everybody: incidents on the status page, and announcements above all pages."""
